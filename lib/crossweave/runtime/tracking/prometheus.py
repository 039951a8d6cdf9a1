"""The last run as a text file that node_exporter's textfile collector reads.

Format: Prometheus text exposition 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from crossweave.errors import SettingsError
from crossweave.runtime.tracking.base import Tracker
from crossweave.runtime.tracking.facts import RunFacts

_AT_K = re.compile(r"(.+)@(\d+)")
Samples = list[tuple[Mapping[str, str], float]]


class PrometheusFile(Tracker):
    """Writes the file whole or not at all; it tells of the last run that named it."""

    name = "prometheus"

    def __init__(self, path: str) -> None:
        """Raise SettingsError where the folder is not there, or not to be written to."""
        self.path = Path(path)
        if not self.path.parent.is_dir() or not os.access(self.path.parent, os.W_OK):
            raise SettingsError(
                f"tracking.prometheus names {path}, but its folder is not there or cannot be written to",
                "make the folder that node_exporter's --collector.textfile.directory names, or set it to null",
            )

    def publish(self, facts: RunFacts) -> None:
        """Replace the file."""
        unfinished = self.path.with_name(f".{self.path.name}.{os.getpid()}")  # no .prom at its end: not collected
        unfinished.write_text(exposition(facts), encoding="utf-8")
        unfinished.replace(self.path)


def exposition(facts: RunFacts) -> str:
    """Return the text of one run."""
    return "".join(line + "\n" for family in _families(facts) for line in _lines(*family))


def _families(facts: RunFacts) -> Iterator[tuple[str, str, Samples]]:
    """Yield name, help and samples of every metric; all are gauges."""
    job = {"job_name": facts.job}  # `job` is Prometheus' own label of whoever was scraped
    stages = [({**job, "stage": stage.name}, stage) for stage in facts.stages]
    info = {**job, "run_id": facts.run_id, "date": facts.date, "status": facts.status, "version": facts.version}
    yield "run_info", "The last run; always 1.", [(info, 1.0)]
    yield "run_success", "1 where the last run ended well, else 0.", [(job, float(facts.exit_code == 0))]
    yield "run_exit_code", "Exit code of the last run.", [(job, float(facts.exit_code))]
    yield "run_end_timestamp_seconds", "When the last run ended, in seconds since 1970.", [(job, facts.ended)]
    yield "run_duration_seconds", "What the stages of the last run took together.", [(job, facts.seconds)]
    yield "stage_duration_seconds", "What a stage took.", [(labels, s.seconds) for labels, s in stages]
    yield "stage_noop", "1 where a stage found nothing to do, else 0.", [(at, float(s.noop)) for at, s in stages]
    yield (
        "stage_rows",
        "Rows of a stage: in, out, and skipped because there was nothing to do.",
        [
            ({**labels, "what": what}, float(rows))
            for labels, s in stages
            for what, rows in (("in", s.total.rows_in), ("out", s.total.rows_out), ("skipped", s.total.skipped))
        ],
    )
    yield (
        "stage_quarantined_rows",
        "Rows that a stage put aside, by reason.",
        [
            ({**labels, "reason": reason}, float(rows))
            for labels, s in stages
            for reason, rows in sorted(s.total.quarantined.items())
        ],
    )
    yield "stage_warnings", "Warnings of a stage.", [(labels, float(len(s.warnings))) for labels, s in stages]
    yield (
        "figure",
        "Figures of the stages; k is the length of the lists.",
        [({**job, **_named(name)}, value) for name, value in facts.metrics.items()],
    )


def _named(figure: str) -> dict[str, str]:
    """Split evaluate.ndcg@20 into its parts."""
    stage, _, name = figure.partition(".")
    at_k = _AT_K.fullmatch(name)
    return {"stage": stage, "name": at_k[1] if at_k else name, "k": at_k[2] if at_k else ""}


def _lines(name: str, about: str, samples: Samples) -> Iterator[str]:
    if not samples:
        return
    name = f"crossweave_{name}"
    yield f"# HELP {name} {_escaped(about)}"
    yield f"# TYPE {name} gauge"
    for labels, value in samples:
        inside = ",".join(f'{key}="{_escaped(text, quotes=True)}"' for key, text in labels.items())
        yield f"{name}{{{inside}}} {value!r}"


def _escaped(text: str, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text
