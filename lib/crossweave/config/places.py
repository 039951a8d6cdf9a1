"""Which folders can be a workspace and which can take an export: asked before anything is written there."""

from __future__ import annotations

from pathlib import Path

from crossweave.config.schema import Settings
from crossweave.errors import SettingsError

SYSTEM = ("/bin", "/boot", "/etc", "/lib", "/lib64", "/sbin", "/tmp", "/usr", "/var")
DEVICES = ("/dev", "/proc", "/sys")
ROOMS = ("tables", "tensors", "models", "receipts", "runs", "staging", "served")


def check_places(settings: Settings) -> None:
    """Raise SettingsError where the workspace or the export would stand in the way of something else."""
    workspace = _folder("workspace", settings.workspace)
    home = _home()
    if str(workspace) in SYSTEM or workspace == home or workspace in (*home.parents, Path("/")):
        raise SettingsError(
            f"workspace={workspace} is a folder of the system or your home folder, not one of its own",
            "name a folder for the workspace alone, say workspace=FOLDER/ws",
        )
    inputs = settings.inputs
    for name in ("items", "interactions", "users", "blocks"):
        given = getattr(inputs, name).path
        if given is not None and _holds(_resolved(f"inputs.{name}.path", given), workspace):
            raise SettingsError(
                f"workspace={workspace} lies in inputs.{name}.path, whose files are read as the input",
                "name a folder beside the input",
            )
    if settings.export.path is not None:
        _check_export(_folder("export.path", settings.export.path), workspace, settings)


def _check_export(target: Path, workspace: Path, settings: Settings) -> None:
    inside = target.relative_to(workspace).parts[:1] if _holds(workspace, target) else ()
    given = [getattr(settings.inputs, name).path for name in ("items", "interactions", "users", "blocks")]
    taken = [workspace, _home(), *(_resolved("inputs", path) for path in given if path is not None)]
    if any(_holds(target, place) for place in taken) or (inside and inside[0] in ROOMS):
        raise SettingsError(
            f"export.path={target} would replace the workspace, the input, your home folder or a part of them",
            "name a folder that holds nothing but the export",
        )


def _holds(folder: Path, place: Path) -> bool:
    return place == folder or folder in place.parents


def _folder(name: str, given: str) -> Path:
    """Return a folder that is there or could be made."""
    place = _resolved(name, given)
    if any(_holds(Path(devices), place) for devices in DEVICES):
        raise SettingsError(f"{name}={place} lies among the system's devices", "name a folder on a disk")
    try:
        first = next((above for above in (place, *place.parents) if above.exists()), Path("/"))
    except OSError as error:
        raise SettingsError(f"{name}={given} cannot be looked at: {error.strerror}", "name another folder") from error
    if not first.is_dir():
        raise SettingsError(f"{name}={given} cannot be a folder: {first} is a file", "name another folder")
    return place


def _resolved(name: str, given: str) -> Path:
    try:
        place = Path(given).resolve()
        str(place).encode()
    except UnicodeEncodeError as error:
        raise SettingsError(f"{name}={given!r} lies below a folder whose name is not UTF-8", "rename it") from error
    except (OSError, RuntimeError) as error:  # the working folder is gone; links that lead round in a circle
        raise SettingsError(f"{name}={given} leads nowhere: {error}", "name another folder") from error
    return place


def _home() -> Path:
    try:
        return Path.home().resolve()
    except (OSError, RuntimeError):
        return Path("/")
