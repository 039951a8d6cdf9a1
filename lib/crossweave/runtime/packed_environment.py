"""The environment that runs this, as an archive for nodes that have no such Python: --archives FILE#environment."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

from crossweave.errors import SettingsError

NVIDIA = "nvidia"
ONLY_CUDA = (NVIDIA, "triton")
"""Folders of packages that nothing needs on a CPU, but for the names in them that torch is linked with."""

SMALL = 5_000_000
"""Bytes below which one of NVIDIA's libraries that torch is linked with stays as it is."""

STUB = """#include <stdio.h>
#include <stdlib.h>
__attribute__((visibility("hidden"))) void nothing(void) {
  fputs("this environment was packed --without-cuda\\n", stderr);
  abort();
}
"""


def write_environment(target: Path, cuda: bool = True, compress: bool = False) -> Path:
    """Write the running environment to a .tar.gz, without NVIDIA's libraries where `cuda` is false.

    Also where nothing is compressed: what ends in .tar Spark unpacks by itself, without the right to run anything
    (SPARK-38632), and refuses links out of the archive; what ends in .tar.gz it gives to the system's tar.
    Its Python is a link to that of this machine. Returns the target. Raises SettingsError where a tool is missing.
    """
    try:
        from venv_pack.core import Env, File
    except ImportError as error:
        raise SettingsError("venv-pack is not installed", "run ./submit.sh setup") from error
    site = Path(sysconfig.get_paths()["purelib"]).resolve()
    environment = Env(str(Path(sys.prefix).resolve()))
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".pack-") as folder:
        if not cuda:
            for package in ONLY_CUDA:
                environment = environment.exclude(f"*/site-packages/{package}/*")
            for library in needed_libraries(site):
                inside = library.relative_to(Path(sys.prefix).resolve()).as_posix()
                if library.stat().st_size < SMALL:
                    environment = environment.include(inside)
                else:
                    environment.files.append(File(str(write_stub(library, site, Path(folder))), inside))
        before, tempfile.tempdir = tempfile.tempdir, folder  # /tmp may be too small for its draft
        try:
            environment.pack(str(target), force=True, compress_level=1 if compress else 0)
        finally:
            tempfile.tempdir = before
    return target


def python_of_nodes() -> Path:
    """Return the Python that the packed environment links to; a node must have it at the same path."""
    return Path(sys.executable).resolve()


def needed_libraries(site: Path) -> list[Path]:
    """Return NVIDIA's libraries that others of the environment are linked with: they must be there to be loaded."""
    names = {name for library in _linked(site) for name in _needs(library)}
    return sorted(path for path in (site / NVIDIA).rglob("*.so*") if path.name in names)


def write_stub(library: Path, site: Path, folder: Path) -> Path:
    """Write a library of the same name, with those functions that others want, all of which end the process."""
    wanted = {name.split("@")[0] for other in _linked(site) for name in _symbols(other, "--undefined-only")}
    found = [name for name in _symbols(library, "--defined-only") if name.split("@")[0] in wanted]
    names, versions = {name.split("@")[0] for name in found}, {name.split("@")[-1] for name in found if "@" in name}
    source, script, stub = (folder / f"{library.name}{end}" for end in (".c", ".map", ""))
    aliases = (f'void {name}(void) __attribute__((alias("nothing")));\n' for name in sorted(names))
    source.write_text(STUB + "".join(aliases))
    script.write_text("".join(f"{version} {{ global: *; }};\n" for version in sorted(versions)))
    link = [f"-Wl,-soname,{library.name}", *([f"-Wl,--version-script={script}"] if versions else [])]
    _run("cc", "-shared", "-fPIC", "-w", "-fno-builtin", *link, "-o", str(stub), str(source))
    return stub


def _linked(site: Path) -> Iterator[Path]:
    """Yield the libraries of torch and of what is built against it."""
    for package in sorted(path for path in site.iterdir() if path.is_dir() and path.name.startswith("torch")):
        yield from sorted(package.rglob("*.so"))


def _needs(library: Path) -> list[str]:
    return re.findall(r"\(NEEDED\).*\[(.*)\]", _run("readelf", "--dynamic", str(library)))


def _symbols(library: Path, which: str) -> list[str]:
    lines = _run("nm", "--dynamic", which, "--with-symbol-versions", str(library)).splitlines()
    return [line.split()[-1] for line in lines if line.split()[-2:-1] in (["T"], ["W"], ["i"], ["U"], ["w"])]


def _run(tool: str, *words: str) -> str:
    if shutil.which(tool) is None:
        raise SettingsError(f"{tool} is not installed", "install a C compiler with its binutils")
    done = subprocess.run([tool, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SettingsError(f"{tool} {words[-1]} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout
