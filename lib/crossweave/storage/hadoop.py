"""What Hadoop's own settings say of name nodes: core-site.xml and hdfs-site.xml of HADOOP_CONF_DIR."""

from __future__ import annotations

import functools
import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path

from crossweave.errors import SettingsError

PORT = "8020"
"""Of a name node whose URL has none, for every client of Hadoop's."""
OF_A_CONTAINER = "__spark_conf__/__hadoop_conf__"
"""Where Spark on YARN brings the submitter's settings to, in a container's working folder."""
_SITES = ("core-site.xml", "hdfs-site.xml")
_DEFAULT = re.compile(r"hdfs://([^/]+)", re.IGNORECASE)
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:@\s\[\]]+)(:[0-9]{1,5})?", re.IGNORECASE)


def conf_folder() -> str:
    """Return the folder of Hadoop's settings, and let every client in this process look there; empty where none is."""
    given = [os.environ.get(name, "") for name in ("HADOOP_CONF_DIR", "YARN_CONF_DIR")]
    for folder in (*given, str(Path.cwd() / OF_A_CONTAINER)):
        if folder and (Path(folder) / _SITES[0]).is_file():
            os.environ["HADOOP_CONF_DIR"] = folder
            return folder
    return ""


def name_node(host: str) -> str | None:
    """Return a name node's one name: HOST:PORT, or that of a service of several; None for what is none.

    Without a host it is that of Hadoop's settings; raises SettingsError where they name none.
    """
    settings = _settings()
    if not host:
        found = _DEFAULT.match(settings.get("fs.defaultFS", ""))
        if found is None:
            raise SettingsError(
                "hdfs:/// names no name node, and no core-site.xml in HADOOP_CONF_DIR has one under fs.defaultFS",
                "write hdfs://HOST:PORT/PATH, or export HADOOP_CONF_DIR",
            )
        host = found[1]
    if host in {name.strip() for name in settings.get("dfs.nameservices", "").split(",")}:
        return host
    parts = _HOST.fullmatch(host)
    return f"{parts[1].lower()}{parts[2] or f':{PORT}'}" if parts else None


def _settings() -> dict[str, str]:
    folder = conf_folder()
    sites = [Path(folder) / name for name in _SITES] if folder else []
    return {
        name: value
        for site in sites
        if site.is_file()
        for name, value in _read(str(site), site.stat().st_mtime_ns).items()
    }


@functools.lru_cache(maxsize=8)
def _read(path: str, changed: int) -> dict[str, str]:
    try:
        entries = ET.parse(path).getroot().iter("property")
    except ET.ParseError as error:
        raise SettingsError(f"{path} is no XML: {error}", "mend it, or name another HADOOP_CONF_DIR") from error
    return {(e.findtext("name") or "").strip(): (e.findtext("value") or "").strip() for e in entries}
