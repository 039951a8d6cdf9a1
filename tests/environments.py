"""Schedulers from PyPI, each in an environment of its own: Crossweave's pins and theirs know nothing of each other."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = "CROSSWEAVE_SCHEDULERS"
"""Environment variable: a folder with environments, or for them; else they are kept in pytest's cache."""
INSTALL_SECONDS, WAIT_SECONDS = 900, 120
OF_PIP = {"global.index-url": "UV_DEFAULT_INDEX", "global.cert": "SSL_CERT_FILE"}
WANTED = {
    "airflow": ["apache-airflow==3.3.2"],
    "dagster": ["dagster==1.13.28"],
    "kubernetes": ["kubernetes-validate==1.37.0"],
}

Environment = Callable[[str], Path]
"""Makes an environment by its name, once, and returns its folder of programs."""


def environment_in(folder: Path, name: str) -> Path:
    """Return the folder of programs of an environment, which is made where it is not there or not as wanted."""
    home, wanted = folder / name, " ".join(WANTED[name])
    ready = home / ".ready"
    if not ready.is_file() or ready.read_text(encoding="utf-8") != wanted:
        _install(home, WANTED[name])
        ready.write_text(wanted, encoding="utf-8")
    return home / "bin"


def _install(home: Path, wanted: list[str]) -> None:
    """Make an environment by uv, which takes a quarter of pip's time; skips where that cannot be done."""
    uv = Path(sys.prefix) / "bin" / "uv"
    variables = os.environ | {variable: value for name, variable in OF_PIP.items() if (value := _pip_says(name))}
    for words in (["venv", "--quiet", "--clear", home], ["pip", "install", "--quiet", "--python", home, *wanted]):
        try:
            done = subprocess.run([uv, *words], env=variables, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"no environment with {wanted} can be made here: {error}")
        if done.returncode:
            pytest.skip(f"no environment with {wanted} can be made here: {done.stderr.strip()[-300:]}")


def _pip_says(name: str) -> str:
    """Return a setting of pip's, which uv does not read."""
    command = [sys.executable, "-m", "pip", "config", "get", name]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def wait_for_line(log: Path, words: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a process has written something; raises OSError where it ends before."""
    end = time.monotonic() + WAIT_SECONDS
    while words not in log.read_text("utf-8", "replace"):
        if process.poll() is not None or time.monotonic() > end:
            raise OSError(f"{process.args} said no {words!r}: {log.read_text('utf-8', 'replace')[-1000:]}")
        time.sleep(0.1)
