"""Who is told of a run when it ends, and what they are told."""

from __future__ import annotations

import datetime
import http.server
import importlib.util
import json
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from one_step import Step

from crossweave.config import load_settings
from crossweave.errors import InputContractError, SettingsError, TryAgainError
from crossweave.runtime.job import run_job
from crossweave.runtime.record import Ledger, StageRecord
from crossweave.runtime.result import RunResult
from crossweave.runtime.tracking import TRACKERS, facts_of, open_trackers, publish
from crossweave.runtime.tracking.base import Tracker
from crossweave.runtime.tracking.facts import RunFacts
from crossweave.runtime.tracking.mlflow_runs import MlflowRuns, key_of
from crossweave.runtime.tracking.prometheus import exposition
from crossweave.runtime.tracking.wandb_runs import WandbRuns

SECRET = "s3cr3t-hunter2"


def finished(tmp_path: Path) -> RunFacts:
    """The facts of a run of two stages that went well."""
    result = RunResult(tmp_path, "20260301T020000-pipeline-abc123", "pipeline", datetime.date(2026, 3, 1))
    result.stages += [
        StageRecord(
            "embed",
            12.5,
            {"contents": Ledger(10, 7, 1, {"truncated": 2})},
            metrics={"encoded": 7.0, "odd": float("nan")},
            warnings=["look"],
        ),
        StageRecord(
            "train",
            30.0,
            metrics={"validation_ndcg@20": 0.25},
            curves={"loss": [(1.0, 5.5), (2.0, 4.25)], "validation": [(2.0, 0.25), (3.0, float("nan"))]},
        ),
    ]
    result.succeed()
    users = f'score.rules.segments={{vip: {{users: "user_id = \'{SECRET}\'", items: "true"}}}}'
    settings = load_settings([], [f"inputs.root=/mnt/{SECRET}", f"workspace=/w/{SECRET}", users])
    return facts_of(result, settings, tmp_path)


def samples(text: str) -> dict[str, float]:
    """Read an exposition by its grammar; fails on any line that is none of it."""
    name, label = r"[a-zA-Z_:][a-zA-Z0-9_:]*", r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*"'
    described, found = set(), {}
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        if line.startswith("#"):
            kind = re.fullmatch(rf"# (HELP|TYPE) ({name}) (.+)", line)
            assert kind is not None, line
            described.add((kind[1], kind[2]))
            continue
        sample = re.fullmatch(rf"(({name})\{{(?:{label}(?:,{label})*)?\}}) (\S+)", line)
        assert sample is not None, line
        assert {("HELP", sample[2]), ("TYPE", sample[2])} <= described
        assert sample[1] not in found, "a series stands there twice"
        found[sample[1]] = float(sample[3])
    return found


def test_the_prometheus_file_has_every_figure_under_its_labels(tmp_path: Path) -> None:
    found = samples(exposition(finished(tmp_path)))
    job = 'job_name="pipeline"'
    assert found[f"crossweave_run_success{{{job}}}"] == 1
    assert found[f"crossweave_run_duration_seconds{{{job}}}"] == 42.5
    assert found[f"crossweave_run_end_timestamp_seconds{{{job}}}"] > 1.7e9
    assert found[f'crossweave_stage_duration_seconds{{{job},stage="embed"}}'] == 12.5
    rows = {
        what: found[f'crossweave_stage_rows{{{job},stage="embed",what="{what}"}}'] for what in ("in", "out", "skipped")
    }
    assert rows == {"in": 10, "out": 7, "skipped": 1}
    assert found[f'crossweave_stage_quarantined_rows{{{job},stage="embed",reason="truncated"}}'] == 2
    assert found[f'crossweave_stage_warnings{{{job},stage="embed"}}'] == 1
    assert found[f'crossweave_figure{{{job},stage="train",name="validation_ndcg",k="20"}}'] == 0.25
    assert found[f'crossweave_figure{{{job},stage="embed",name="encoded",k=""}}'] == 7
    assert not [series for series in found if "odd" in series]  # not a number


def test_prometheus_own_parser_reads_the_same(tmp_path: Path) -> None:
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus_client is not installed")
    text = exposition(finished(tmp_path))
    theirs = [sample for family in parser.text_string_to_metric_families(text) for sample in family.samples]
    assert sorted(sample.value for sample in theirs) == sorted(samples(text).values())


def test_labels_and_help_are_escaped() -> None:
    nasty = 'a "b" \\ c\nd'
    facts = RunFacts(nasty, "j", "d", "ok", 0, "", [StageRecord(nasty)], {}, {})
    escaped = 'a \\"b\\" \\\\ c\\nd'
    found = samples(exposition(facts))
    assert f'crossweave_stage_duration_seconds{{job_name="j",stage="{escaped}"}}' in found
    assert any(f'run_id="{escaped}"' in series for series in found)


def test_a_failed_run_says_so(tmp_path: Path) -> None:
    result = RunResult(tmp_path, "r", "embed", datetime.date(2026, 3, 1))
    result.stages.append(StageRecord("embed", 1.0))
    result.fail(SettingsError(f"{SECRET} is wrong"))
    facts = facts_of(result, load_settings(), tmp_path)
    assert (facts.exit_code, facts.status, facts.error) == (2, "failed", "SettingsError")
    assert samples(exposition(facts))['crossweave_run_success{job_name="embed"}'] == 0
    assert SECRET not in repr(facts.settings) + facts.error


def test_no_path_rule_or_secret_is_told(tmp_path: Path) -> None:
    facts = finished(tmp_path)
    assert facts.settings["train.learning_rate"] and facts.settings["split.protocol"] == "warm"
    assert SECRET not in repr([facts.settings, facts.metrics]) + exposition(facts)


def test_a_user_in_the_address_of_a_server_is_refused() -> None:
    with pytest.raises(SettingsError, match="MLFLOW_TRACKING_USERNAME"):
        load_settings([], [f"tracking.mlflow={{uri: 'https://me:{SECRET}@host/x'}}"])
    assert load_settings([], ["tracking.mlflow={uri: 'https://host/x@y'}"]).tracking.mlflow is not None


def test_nobody_is_told_unless_the_settings_say_so() -> None:
    assert open_trackers(load_settings()) == []
    assert set(TRACKERS) | {"seconds"} == set(type(load_settings().tracking).model_fields)


@pytest.mark.parametrize(("package", "tracker", "own"), [("mlflow", "mlflow", "{uri: x}"), ("wandb", "wandb", "{}")])
def test_a_missing_package_is_named_with_its_extra_before_anything_starts(
    package: str, tracker: str, own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == package else there(name, *a))
    said: list[str] = []
    words = ["--set", f"workspace={tmp_path / 'ws'}", "--set", f"tracking.{tracker}={own}"]
    assert run_job("ingest", [Step("ingest", lambda context, record: None)], words, said.append) == 2
    assert any(f"needs the package {package}" in line for line in said)
    assert any(f"crossweave[{tracker}]" in line for line in said)
    assert not (tmp_path / "ws").exists()


def test_a_prometheus_file_needs_a_folder_and_its_ending(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="folder is not there"):
        open_trackers(load_settings([], [f"tracking.prometheus={tmp_path / 'none' / 'x.prom'}"]))
    with pytest.raises(SettingsError, match="prometheus"):
        load_settings([], ["tracking.prometheus=x.txt"])


def test_a_run_replaces_the_prometheus_file_whole_even_where_it_fails(tmp_path: Path) -> None:
    def good(context: object, record: StageRecord) -> None:
        record.ledgers = {"rows": Ledger(3, 3)}

    def bad(context: object, record: StageRecord) -> None:
        raise ValueError("a bug")

    path = tmp_path / "crossweave.prom"
    words = ["--set", f"workspace={tmp_path / 'ws'}", "--set", f"tracking.prometheus={path}"]
    for stage, code in ((good, 0), (bad, 1)):
        assert run_job("ingest", [Step("ingest", stage)], words, lambda line: None) == code
        found = samples(path.read_text(encoding="utf-8"))
        assert found['crossweave_run_exit_code{job_name="ingest"}'] == code
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["crossweave.prom"]


class Broken(Tracker):
    """A server that answers with an error of its own."""

    name = "broken"

    def publish(self, facts: RunFacts) -> None:
        raise SystemExit("no\nroute")


class Silent(Tracker):
    """A server that never answers."""

    name = "silent"

    def publish(self, facts: RunFacts) -> None:
        threading.Event().wait(30)


class Hearing(Tracker):
    """One that works."""

    name = "hearing"

    def __init__(self) -> None:
        self.heard: list[str] = []

    def publish(self, facts: RunFacts) -> None:
        self.heard.append(facts.run_id)


def test_whoever_fails_or_never_answers_is_a_warning_and_the_others_are_told(tmp_path: Path) -> None:
    last = Hearing()
    warnings = publish([Broken(), Silent(), last], finished(tmp_path), 0.2)
    assert warnings == [
        "the run was not told to broken: SystemExit: no",
        "the run was not told to silent: it took longer than 0.2 s",
    ]
    assert last.heard == ["20260301T020000-pipeline-abc123"]


def test_a_night_ends_well_though_its_file_cannot_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "textfile"
    folder.mkdir()

    def stage(context: object, record: StageRecord) -> None:
        record.ledgers = {"rows": Ledger(1, 1)}
        folder.rmdir()

    said: list[str] = []
    words = ["--set", f"workspace={tmp_path / 'ws'}", "--set", f"tracking.prometheus={folder / 'x.prom'}"]
    assert run_job("ingest", [Step("ingest", stage)], words, said.append) == 0
    assert any("warning: the run was not told to prometheus: FileNotFoundError" in line for line in said)
    latest = tmp_path / "ws" / "runs" / "latest"
    assert json.loads((latest / "run_result.json").read_text())["status"] == "ok"
    assert "was not told to prometheus" in (latest / "log.jsonl").read_text()


class Hook(http.server.BaseHTTPRequestHandler):
    """Takes what is posted; answers what its server was told to."""

    def do_POST(self) -> None:
        self.server.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.answer)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[http.server.HTTPServer]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Hook)
    server.heard, server.answer = [], 200
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def failing_night(tmp_path: Path, own: str, error: Exception | None = None) -> tuple[int, list[str]]:
    def stage(context: object, record: StageRecord) -> None:
        record.ledgers = {"rows": Ledger(1, 1)}
        if error is not None:
            raise error

    said: list[str] = []
    words = ["--set", f"workspace={tmp_path / 'ws'}", "--set", f"tracking.on_failure={own}", "--date", "2026-03-01"]
    return run_job("ingest", [Step("ingest", stage)], words, said.append), said


def test_a_failure_is_told_to_command_and_address_with_what_to_do_and_where_to_look(tmp_path: Path, hook) -> None:
    address, told = f"http://127.0.0.1:{hook.server_port}/x", tmp_path / "told"
    own = f"{{command: 'cat > {told}', webhook: '{address}'}}"
    code, said = failing_night(tmp_path, own, InputContractError("the file is torn", "write it again"))
    assert code == 3 and not any("not told" in line for line in said)
    assert [json.loads(told.read_text())] == hook.heard
    (heard,) = hook.heard
    assert heard["text"] == "crossweave ingest of 2026-03-01 failed (exit 3): InputContractError: the file is torn"
    assert heard["error"]["hint"] == "write it again"
    assert json.loads(Path(heard["record"]).read_text())["run_id"] == heard["run_id"]


def test_a_run_that_went_well_or_ended_with_another_code_is_told_to_nobody(tmp_path: Path, hook) -> None:
    address = f"http://127.0.0.1:{hook.server_port}/x"
    assert failing_night(tmp_path, f"{{webhook: '{address}'}}")[0] == 0
    own = f"{{webhook: '{address}', codes: [1, 2, 3, 4]}}"
    assert failing_night(tmp_path, own, TryAgainError("busy"))[0] == 75
    assert hook.heard == []


def test_an_address_or_command_that_fails_is_a_warning_without_its_place_and_the_code_stands(tmp_path, hook) -> None:
    address, error = f"http://127.0.0.1:{hook.server_port}/{SECRET}", InputContractError("torn")
    for answer, words in ((500, "answered 500"), (302, "answered 302")):  # it is not followed
        hook.answer = answer
        code, said = failing_night(tmp_path, f"{{webhook: '{address}'}}", error)
        assert code == 3 and any(f"not told to on_failure: RuntimeError: the webhook {words}" in line for line in said)
        assert SECRET not in "".join(said)
    assert len(hook.heard) == 2
    own = f"{{command: 'echo no >&2; exit 7', webhook: 'http://127.0.0.1:9/{SECRET}'}}"
    code, said = failing_night(tmp_path, own, error)
    (warning,) = [line for line in said if "not told" in line]
    assert code == 3 and SECRET not in warning
    assert "the command ended with 7: no; the webhook could not be reached" in warning


@pytest.mark.parametrize(
    "own", ["{}", "{webhook: 'ftp://host/x'}", "{webhook: 'https://me:pw@host/x'}", "{codes: [0]}"]
)
def test_settings_of_a_failure_s_hook_are_refused_early(own: str) -> None:
    with pytest.raises(SettingsError, match="on_failure"):
        load_settings([], [f"tracking.on_failure={own}"])


def test_names_that_mlflow_takes() -> None:
    assert key_of("evaluate.ndcg@20") == "evaluate.ndcg_at_20"
    assert key_of("loss/infonce: a|b é") == "loss/infonce_ a_b _"


def test_mlflow_has_the_run_with_its_settings_figures_and_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # of all stores the one that needs no database
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    store = f"file:{tmp_path / 'store'}"
    facts = finished(tmp_path)
    MlflowRuns(SimpleNamespace(uri=store, experiment="shop")).publish(facts)
    client = mlflow.MlflowClient(tracking_uri=store)
    (run,) = client.search_runs([client.get_experiment_by_name("shop").experiment_id])
    assert (run.info.run_name, run.info.status) == (facts.run_id, "FINISHED")
    assert run.data.metrics["train.validation_ndcg_at_20"] == 0.25
    assert run.data.params["split.protocol"] == "warm"
    steps = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "curve/train.loss")]
    assert steps == [(1, 5.5), (2, 4.25)]


def test_wandb_keeps_an_offline_run_in_the_runs_folder_and_says_nothing(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    own = SimpleNamespace(project="shop", mode="offline")
    program = (
        "import sys, pickle\nfrom types import SimpleNamespace\n"
        "from crossweave.runtime.tracking.wandb_runs import WandbRuns\n"
        "facts, own = pickle.loads(bytes.fromhex(sys.argv[1]))\nWandbRuns(own).publish(facts)\n"
    )
    words = [sys.executable, "-c", program, pickle.dumps((finished(tmp_path), own)).hex()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    kept = file.read_bytes()
    assert b"train.validation_ndcg@20" in kept and b"split.protocol" in kept
    assert SECRET.encode() not in kept
    assert WandbRuns.name == "wandb"
