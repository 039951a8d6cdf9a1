"""The tensors that the judged model was trained on."""

from __future__ import annotations

from crossweave.feeding.manifest import SETS, Manifest, load_manifest
from crossweave.runtime.stage import StageContext


def last_manifest(context: StageContext) -> Manifest | None:
    """Return the manifest of the last tensor set, or None where the set is gone."""
    folder = context.receipts.required("tensors").details.folder
    return load_manifest(context.workspace / SETS / folder)
