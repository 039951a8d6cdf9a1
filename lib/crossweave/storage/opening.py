"""Which store a scheme stands for."""

from __future__ import annotations

from crossweave.errors import SettingsError
from crossweave.storage.bucket import Bucket
from crossweave.storage.disk import Disk
from crossweave.storage.hdfs import Hdfs
from crossweave.storage.stores import Store

PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs", "hdfs": "hdfs-native"}
"""The package from PyPI that speaks to a store."""


def open_store(scheme: str, host: str) -> Store:
    """Return a store, with the credentials of the environment; SettingsError where its package is not installed."""
    if scheme == "file":
        return Disk()
    try:
        return Hdfs(host) if scheme == "hdfs" else Bucket(scheme, host)
    except ImportError as error:
        raise SettingsError(
            f"{scheme}://{host} needs the package {PACKAGES[scheme]}", f"pip install {PACKAGES[scheme]}"
        ) from error
