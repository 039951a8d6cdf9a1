"""The rules of the house (design, section 2), read from the imports of every module in lib and jobs."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = "crossweave"
JOB_LINES = 60

MIDDLE = {
    "alignment": set(),
    "artifacts": {"alignment", "storage"},
    "config": {"storage"},
    "demo": set(),
    "encoders": set(),
    "evaluation": {"encoders"},
    "feeding": {"storage", "tables"},
    "pretraining": {"alignment", "artifacts", "config", "encoders", "feeding", "storage", "training"},
    "runtime": {"config", "storage", "tables", "artifacts", "evaluation", "feeding"},
    "scoring": {"alignment"},
    "storage": set(),
    "tables": {"storage"},
    "training": {"config", "storage", "tables", "alignment", "evaluation", "feeding"},
}
"""Room -> the rooms beside it that it may import; errors, redaction and the room itself, always."""

FLOOR = {"errors", "redaction"}
ALLOWED = {room: beside | {room, *FLOOR} for room, beside in MIDDLE.items()}
ALLOWED |= {"errors": set(), "redaction": set(), "stages": {*FLOOR, *MIDDLE}, "pipeline": {"stages", *FLOOR, *MIDDLE}}
ALLOWED |= {"jobs": {"pipeline", "stages", "runtime", *FLOOR}}
TORCH_ROOMS = {"encoders", "alignment", "scoring", "evaluation", "demo"}

Sources = Mapping[str, str]
"""Module name -> its source; packages carry the name of their folder and end in `.__init__`."""


def read_sources() -> dict[str, str]:
    """Read every module of the package and every job."""
    sources = {}
    for base, prefix in ((REPOSITORY / "lib" / PACKAGE, PACKAGE), (REPOSITORY / "jobs", "jobs")):
        for path in sorted(base.rglob("*.py")):
            name = ".".join([prefix, *path.relative_to(base).with_suffix("").parts])
            sources[name] = path.read_text(encoding="utf-8")
    return sources


def imports(module: str, source: str) -> Iterator[str]:
    """Yield every name that a module imports, anywhere in it: `from a import b` gives `a.b`."""
    package = module.rsplit(".", 1)[0].split(".")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("__import__", "importlib.import_module"):
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str))


def room_of(name: str) -> str:
    """Return the room of a module or imported name; empty for the package's own face and for the world outside."""
    parts = name.split(".")
    if parts[0] == "jobs":
        return "jobs"
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 and not parts[1].startswith("__") else ""


def wrong_directions(sources: Sources) -> list[str]:
    """Name every import that runs upward, sideways without leave, or out of a room that the house does not have."""
    found = []
    for module, source in sources.items():
        room = room_of(module)
        if room and room not in ALLOWED:
            found.append(f"{module} lives in a room that the design does not have")
            continue
        for name in imports(module, source):
            target = room_of(name)
            if target and target not in ALLOWED.get(room, set()) | ({room} - {"stages", "jobs"}):
                sibling = room == target == "stages" and module.split(".")[:3] == name.split(".")[:3]
                if not sibling:
                    found.append(f"{module} imports {name}")
    return found


def forbidden_libraries(sources: Sources) -> list[str]:
    """Name pyspark in a torch room, Horovod outside training/collective.py and Petastorm outside feeding."""
    found = []
    for module, source in sources.items():
        room = room_of(module)
        for name in imports(module, source):
            library = name.split(".")[0]
            if (
                (library == "pyspark" and room in TORCH_ROOMS)
                or (library == "horovod" and module != f"{PACKAGE}.training.collective")
                or (library == "petastorm" and room != "feeding")
            ):
                found.append(f"{module} imports {library}")
    return found


def circles(sources: Sources) -> list[str]:
    """Name every circle of modules that import each other."""
    graph = {module: {m for name in imports(module, source) for m in _modules(name, sources)} - {module}
             for module, source in sources.items()}  # fmt: skip
    found: list[str] = []
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            found.append(" → ".join([*path[path.index(module) :], module]))
        elif module not in done:
            for target in sorted(graph[module]):
                visit(target, [*path, module])
            done.add(module)

    for module in sorted(graph):
        visit(module, [])
    return found


def _modules(name: str, sources: Sources) -> Iterator[str]:
    """Yield the module behind an imported name: itself, its package, or the module that defines it."""
    parts = name.split(".")
    for length in (len(parts), len(parts) - 1):
        stem = ".".join(parts[:length])
        match = next((m for m in (stem, f"{stem}.__init__") if m in sources), None)
        if match is not None:
            yield match
            return


OF_STORAGE = {"tables", "artifacts", "feeding", "training", "stages"}
"""Rooms that speak of places in a workspace or an input, and leave to storage where their bytes lie."""

OF_THIS_MACHINE = {
    "artifacts.sealed": "drafts are built on this machine",
    "feeding.host_cache": "arrays that this host's processes share",
    "feeding.items": "fills those arrays",
    "stages.demo": "the shop is drawn on this machine, then uploaded",
    "stages.export.__init__": "libraries write faiss, ONNX and CSV on this machine; only a disk can swap folders",
    "stages.export.models": "writes into such a draft",
    "stages.pretrain.learning": "writes into the draft of a learned encoder",
    "stages.train.fitting": "writes into the draft of a model",
    "stages.train.searching": "copies into such a draft",
    "tables.disk_files": "links, circles and two names of one file: a store has none",
    "training.collective": "the files of this driver into which Horovod copies the ranks' output; their environment",
    "training.rank_ends": "ends a process",
    "training.record": "TensorBoard writes on this machine",
    "artifacts.model": "takes a file's name apart",
}
"""Module of those rooms that touches paths of this machine -> why."""


def touches_paths(sources: Sources) -> set[str]:
    """Name the modules of those rooms that import os or shutil, or call open, Path or what folders of a disk can do."""
    found = set()
    for module, source in sources.items():
        if room_of(module) not in OF_STORAGE:
            continue
        tree = ast.parse(source)
        imported = {name.split(".")[0] for name in imports(module, source)} & {"os", "shutil"}
        calls = {
            node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)
        }
        named = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        if imported or named & {"open", "Path"} or calls & OF_A_DISK:
            found.add(module.removeprefix(f"{PACKAGE}."))
    return found


OF_A_DISK = {
    "glob",
    "rglob",
    "iterdir",
    "mkdir",
    "unlink",
    "rename",
    "read_text",
    "write_text",
    "read_bytes",
    "write_bytes",
}

SOURCES = read_sources()


def test_the_checker_sees_the_modules_of_the_house() -> None:
    assert {"crossweave.tables.store", "crossweave.stages.ingest.__init__", "jobs.ingest_catalog"} <= set(SOURCES)
    assert {room_of(module) for module in SOURCES if room_of(module)} <= set(ALLOWED)


def test_imports_run_only_in_the_agreed_directions() -> None:
    assert wrong_directions(SOURCES) == []


def test_torch_rooms_do_without_spark_and_horovod_and_petastorm_have_one_door_each() -> None:
    assert forbidden_libraries(SOURCES) == []


def test_only_storage_knows_where_the_bytes_of_workspaces_and_inputs_lie() -> None:
    assert touches_paths(SOURCES) == set(OF_THIS_MACHINE)


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.stat(p)",
        "from shutil import rmtree",
        "open(p)",
        "Path(p)",
        "p.glob('*')",
        "p.write_text('')",
        "p.mkdir()",
    ],
)
def test_the_checker_finds_a_stage_that_touches_paths_itself(source: str) -> None:
    assert touches_paths({"crossweave.stages.x": source}) == {"stages.x"}
    assert (
        touches_paths({"crossweave.encoders.x": source, "crossweave.stages.y": "place.put(b''); place.open()"}) == set()
    )


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(SOURCES) == []


def test_jobs_are_at_most_sixty_lines() -> None:
    assert long_jobs(SOURCES) == []


def long_jobs(sources: Sources) -> list[str]:
    """Name the jobs of more lines than a table of contents has."""
    return [m for m, source in sources.items() if room_of(m) == "jobs" and len(source.splitlines()) > JOB_LINES]


def test_the_checker_finds_a_long_job() -> None:
    assert long_jobs({"jobs.a": "x = 1\n" * 61, "jobs.b": "x = 1\n" * 60, "crossweave.stages.c": "x\n" * 99}) == [
        "jobs.a"
    ]


@pytest.mark.parametrize(
    ("module", "source", "imported"),
    [
        ("crossweave.tables.store", "from crossweave.runtime.run import Run", "crossweave.runtime.run.Run"),
        ("crossweave.encoders.base", "import crossweave.tables.store", "crossweave.tables.store"),
        ("crossweave.scoring.topk", "from crossweave import feeding", "crossweave.feeding"),
        ("crossweave.config.load", "def f():\n    import crossweave.stages.ingest", "crossweave.stages.ingest"),
        ("crossweave.alignment.model", "from ..training import loop", "crossweave.training.loop"),
        ("crossweave.stages.embed", "from crossweave.stages.ingest import x", "crossweave.stages.ingest.x"),
        ("crossweave.stages.embed", "from . import ingest", "crossweave.stages.ingest"),
        ("crossweave.errors", "from crossweave.config import Settings", "crossweave.config.Settings"),
        ("crossweave.stages.embed", "import jobs.embed_items", "jobs.embed_items"),
        ("jobs.embed_items", "from crossweave.tables.store import TableStore", "crossweave.tables.store.TableStore"),
        ("jobs.pipeline", "import jobs.embed_items", "jobs.embed_items"),
        ("crossweave.training.loop", "import importlib\nimportlib.import_module('crossweave.stages.train')",
         "crossweave.stages.train"),
    ],
)  # fmt: skip
def test_the_checker_finds_an_import_in_a_wrong_direction(module: str, source: str, imported: str) -> None:
    assert wrong_directions({module: source}) == [f"{module} imports {imported}"]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("crossweave.training.loop", "from crossweave.feeding.items import x\nfrom crossweave.alignment import y"),
        ("crossweave.scoring.reasons", "from crossweave.alignment.model import x\nfrom crossweave import errors"),
        ("crossweave.feeding.reader", "from crossweave.storage.records import x\nfrom .manifest import y"),
        ("crossweave.stages.embed", "from crossweave.encoders import x\nimport pyspark"),
        ("crossweave.stages.embed.tasks", "from crossweave.stages.embed.rows import x"),
        ("jobs.embed_items", "from crossweave.runtime.job import run_job\nfrom crossweave.stages.embed import x"),
    ],
)
def test_the_checker_lets_the_agreed_imports_pass(module: str, source: str) -> None:
    assert wrong_directions({module: source}) == []


def test_the_checker_finds_a_room_that_the_design_does_not_have() -> None:
    assert wrong_directions({"crossweave.utils.misc": ""}) == [
        "crossweave.utils.misc lives in a room that the design does not have"
    ]


@pytest.mark.parametrize(
    ("module", "source", "library"),
    [
        *[(f"crossweave.{room}.x", "def f():\n    from pyspark.sql import functions", "pyspark")
          for room in sorted(TORCH_ROOMS)],
        ("crossweave.training.loop", "import horovod.torch as hvd", "horovod"),
        ("crossweave.stages.train", "from horovod.spark import run", "horovod"),
        ("crossweave.stages.tensors", "from petastorm import make_batch_reader", "petastorm"),
    ],
)  # fmt: skip
def test_the_checker_finds_a_library_in_a_room_that_must_do_without(module: str, source: str, library: str) -> None:
    assert forbidden_libraries({module: source}) == [f"{module} imports {library}"]


def test_the_checker_lets_each_library_in_by_its_door() -> None:
    doors = {
        "crossweave.training.collective": "import horovod.torch",
        "crossweave.feeding.reader": "import petastorm",
        "crossweave.stages.embed": "import pyspark",
    }
    assert forbidden_libraries(doors) == []


def test_the_checker_finds_circles_of_two_of_three_and_through_a_package() -> None:
    two = {"crossweave.a": "import crossweave.b", "crossweave.b": "def f():\n    from crossweave import a"}
    assert circles(two) == ["crossweave.a → crossweave.b → crossweave.a"]
    three = {
        "crossweave.a": "import crossweave.b",
        "crossweave.b": "import crossweave.c",
        "crossweave.c": "from . import a",
    }
    assert circles(three) == ["crossweave.a → crossweave.b → crossweave.c → crossweave.a"]
    face = {"crossweave.a.__init__": "from crossweave.a.x import f", "crossweave.a.x": "from crossweave.a import g"}
    assert circles(face) == ["crossweave.a.__init__ → crossweave.a.x → crossweave.a.__init__"]


def test_the_checker_finds_no_circle_where_two_modules_share_a_third() -> None:
    diamond = {"crossweave.a": "import crossweave.b, crossweave.c", "crossweave.b": "from crossweave.d import x",
               "crossweave.c": "from crossweave.d import x", "crossweave.d": ""}  # fmt: skip
    assert circles(diamond) == []
