"""What travels to a cluster: the package as a zip for --py-files."""

from __future__ import annotations

import zipfile
from pathlib import Path

from crossweave.storage.names import temporary

PACKAGE = Path(__file__).resolve().parents[1]
DEFAULTS = "conf/base.yaml"
LONG_AGO = (1980, 1, 1, 0, 0, 0)


def write_package(target: Path) -> Path:
    """Write the running package, its default settings inside, as a zip; the same files give the same bytes.

    Whoever reads an older zip there meanwhile keeps it. Returns the target.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = temporary(target)
    try:
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, path in sorted(_files().items()):
                entry = zipfile.ZipInfo(f"{PACKAGE.name}/{name}", LONG_AGO)
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                archive.writestr(entry, path.read_bytes())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target


def _files() -> dict[str, Path]:
    found = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*") if path.is_file()}
    whole = {name: path for name, path in found.items() if "__pycache__" not in path.parts}
    return {DEFAULTS: PACKAGE.parents[1] / DEFAULTS} | whole
