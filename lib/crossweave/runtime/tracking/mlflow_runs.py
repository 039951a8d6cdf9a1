"""Runs in MLflow: settings as parameters, figures as metrics, the training's curves by epoch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import chain
from typing import Any

from crossweave.config.tracking import MlflowSettings
from crossweave.runtime.tracking.base import Tracker, require
from crossweave.runtime.tracking.facts import RunFacts

AT_ONCE, PARAMS_AT_ONCE = 1000, 100  # what a server takes in one request
PARAM_LENGTH = 6000  # characters
HTTP = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""Unless the environment says otherwise: MLflow's own patience is many minutes."""


class MlflowRuns(Tracker):
    """One MLflow run for each run; who may write there is told by MLflow's own environment variables."""

    name = "mlflow"

    def __init__(self, settings: MlflowSettings) -> None:
        """Raise SettingsError where MLflow is not installed."""
        require("mlflow", "mlflow")
        self.settings = settings

    def publish(self, facts: RunFacts) -> None:
        """Make a run in the experiment, which is made where it is not there."""
        for name, value in HTTP.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        client = MlflowClient(tracking_uri=self.settings.uri)
        experiment = client.get_experiment_by_name(self.settings.experiment)
        place = experiment.experiment_id if experiment else client.create_experiment(self.settings.experiment)
        tags = {"job": facts.job, "date": facts.date, "status": facts.status, "version": facts.version}
        tags |= {"error": facts.error} if facts.error else {}
        run = client.create_run(place, run_name=facts.run_id, tags=tags).info.run_id
        now = int(1000 * facts.ended)
        params = [Param(key_of(name), value[:PARAM_LENGTH]) for name, value in facts.settings.items()]
        seconds = {f"{stage.name}.seconds": stage.seconds for stage in facts.stages}
        figures = [Metric(key_of(n), value, now, 0) for n, value in chain(facts.metrics.items(), seconds.items())]
        curves = [
            Metric(f"curve/{key_of(name)}", y, now, int(x)) for name, points in facts.curves.items() for x, y in points
        ]
        for some in _batches(params, PARAMS_AT_ONCE):
            client.log_batch(run, params=some)
        for some in _batches(figures + curves, AT_ONCE):
            client.log_batch(run, metrics=some)
        client.set_terminated(run, status="FINISHED" if facts.exit_code == 0 else "FAILED", end_time=now)


def key_of(name: str) -> str:
    """Return a name that MLflow takes: ndcg@20 becomes ndcg_at_20, other signs a line."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-. /") else "_" for c in name.replace("@", "_at_"))


def _batches(rows: Sequence[Any], most: int) -> list[Sequence[Any]]:
    return [rows[start : start + most] for start in range(0, len(rows), most)]
