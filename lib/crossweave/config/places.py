"""Which folders can be a workspace and which can take an export: asked before anything is written there."""

from __future__ import annotations

from pathlib import Path

from crossweave.config.schema import Settings
from crossweave.errors import SettingsError
from crossweave.storage.location import Location, is_url

SYSTEM = ("/bin", "/boot", "/etc", "/lib", "/lib64", "/sbin", "/tmp", "/usr", "/var")
DEVICES = ("/dev", "/proc", "/sys")
ROOMS = ("tables", "tensors", "models", "receipts", "runs", "staging", "served")
INPUTS = ("items", "interactions", "users", "blocks")


def check_places(settings: Settings) -> None:
    """Raise SettingsError where the workspace or the export would stand in the way of something else."""
    workspace, home = _folder("workspace", settings.workspace), _home()
    if workspace.holds(home) or (workspace.is_local and workspace.path in SYSTEM):
        raise SettingsError(
            f"workspace={workspace} is a folder of the system or your home folder, not one of its own",
            "name a folder for the workspace alone, say workspace=FOLDER/ws",
        )
    inputs = _inputs(settings)
    for name, place in inputs.items():
        if place.holds(workspace):
            raise SettingsError(
                f"workspace={workspace} lies in {name}, whose files are read as the input",
                "name a folder beside the input",
            )
    if settings.export.path is not None:
        _check_export(_folder("export.path", settings.export.path), workspace, [home, *inputs.values()])


def paths_of(settings: Settings) -> dict[str, str]:
    """Return what a run reads and writes: the name of the setting → the path or URL."""
    given = {f"inputs.{name}.path": getattr(settings.inputs, name).path for name in INPUTS}
    given |= {"workspace": settings.workspace, "export.path": settings.export.path}
    return {name: path for name, path in given.items() if path is not None}


def _inputs(settings: Settings) -> dict[str, Location]:
    given = paths_of(settings).items()
    return {name: _resolved(name, path) for name, path in given if name.startswith("inputs.")}


def _check_export(target: Location, workspace: Location, others: list[Location]) -> None:
    inside = target.below(workspace).split("/")[0] if workspace.holds(target) else ""
    if any(target.holds(place) for place in (workspace, *others)) or inside in ROOMS:
        raise SettingsError(
            f"export.path={target} would replace the workspace, the input, your home folder or a part of them",
            "name a folder that holds nothing but the export",
        )
    if target.parent == target:
        raise SettingsError(f"export.path={target} would replace all of that store", "name a folder in it")


def _folder(name: str, given: str) -> Location:
    """Return a folder that is there or could be made."""
    place = _resolved(name, given)
    if not place.is_local:
        return place
    if any(Location("file", "", devices).holds(place) for devices in DEVICES):
        raise SettingsError(f"{name}={place} lies among the system's devices", "name a folder on a disk")
    path = place.local
    try:
        first = next((above for above in (path, *path.parents) if above.exists()), Path("/"))
    except OSError as error:
        raise SettingsError(f"{name}={given} cannot be looked at: {error.strerror}", "name another folder") from error
    if not first.is_dir():
        raise SettingsError(f"{name}={given} cannot be a folder: {first} is a file", "name another folder")
    return place


def _resolved(name: str, given: str) -> Location:
    try:
        place = Location.of(given) if is_url(given) else Location("file", "", str(Path(given).resolve()))
        place.path.encode()
    except SettingsError as error:
        raise SettingsError(f"{name}: {error.message}", error.hint) from error
    except UnicodeEncodeError as error:
        raise SettingsError(f"{name}={given!r} lies below a folder whose name is not UTF-8", "rename it") from error
    except (OSError, RuntimeError) as error:  # the working folder is gone; links that lead round in a circle
        raise SettingsError(f"{name}={given} leads nowhere: {error}", "name another folder") from error
    return place


def _home() -> Location:
    try:
        return Location("file", "", str(Path.home().resolve()))
    except (OSError, RuntimeError):
        return Location("file", "", "/")
