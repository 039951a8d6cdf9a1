"""What travels to a cluster."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from crossweave.runtime import packed_environment
from crossweave.runtime.packed_environment import needed_libraries, write_stub
from crossweave.runtime.packing import write_package

FUNCTIONS = "int gpu_wanted(void) { return 7; }\nint gpu_unused(void) { return 8; }\n"
USER = "int gpu_wanted(void);\nint count(int gpu) { return gpu ? gpu_wanted() : 3; }\n"


def compiled(target: Path, source: str, *words: str) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    code = target.with_suffix(".c")
    code.write_text(source)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(target), str(code), *words], check=True)
    code.unlink()
    return target


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Packages as torch and NVIDIA make them: a library that is linked with one of versioned functions."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler here")
    (versions := tmp_path / "versions").write_text("libgpu.so.13 { global: *; };\n")
    folder, site = tmp_path / "site" / "nvidia" / "lib", tmp_path / "site"
    script = f"-Wl,-soname,libgpu.so.13,--version-script={versions}"
    gpu = compiled(folder / "libgpu.so.13", FUNCTIONS, script)
    compiled(folder / "libopened.so.13", FUNCTIONS)
    compiled(site / "torch" / "lib" / "libtorch.so", USER, str(gpu), f"-Wl,-rpath,{folder}")
    return site


def loaded(site: Path, gpu: int) -> subprocess.CompletedProcess[str]:
    """Load it as Python loads extensions, every symbol at once, and call it."""
    code = f"import ctypes, os; print(ctypes.CDLL({str(site / 'torch/lib/libtorch.so')!r}, os.RTLD_NOW).count({gpu}))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_a_library_that_torch_is_linked_with_becomes_a_stub_that_loads_and_is_never_taken_for_it(
    site: Path, tmp_path: Path
) -> None:
    assert [path.name for path in needed_libraries(site)] == ["libgpu.so.13"]
    real = needed_libraries(site)[0]
    (aside := tmp_path / "aside").mkdir()
    stub = write_stub(real, site, aside)
    assert loaded(site, 1).stdout == "7\n"
    real.unlink()
    assert "libgpu.so.13" in loaded(site, 0).stderr  # without either, nothing can be loaded
    shutil.copy(stub, real)
    assert loaded(site, 0).stdout == "3\n"
    asked = loaded(site, 1)
    assert asked.returncode != 0
    assert "packed --without-cuda" in asked.stderr


def test_a_missing_tool_is_named(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_environment.shutil, "which", lambda tool: None)
    with pytest.raises(packed_environment.SettingsError, match="readelf is not installed"):
        needed_libraries(site)


def test_the_package_is_the_same_zip_each_time_and_works_without_a_checkout(tmp_path: Path) -> None:
    first, again = (write_package(tmp_path / name).read_bytes() for name in ("a.zip", "b.zip"))
    assert first == again
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert not [name for name in archive.namelist() if "__pycache__" in name]
    code = "import crossweave.config as c; print(c.__file__, c.load_settings().seed)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "a.zip")},
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.startswith(str(tmp_path / "a.zip"))
