"""Runs in Weights & Biases: settings as config, figures as summary, the training's curves by epoch."""

from __future__ import annotations

from collections import defaultdict

from crossweave.config.tracking import WandbSettings
from crossweave.runtime.tracking.base import Tracker, require
from crossweave.runtime.tracking.facts import RunFacts


class WandbRuns(Tracker):
    """One W&B run for each run; offline ones wait in the run's folder for `wandb sync`."""

    name = "wandb"

    def __init__(self, settings: WandbSettings) -> None:
        """Raise SettingsError where wandb is not installed."""
        require("wandb", "wandb")
        self.settings = settings

    def publish(self, facts: RunFacts) -> None:
        """Make a run in the project."""
        import wandb

        quiet = wandb.Settings(
            silent=True, console="off", disable_git=True, save_code=False, disable_code=True, disable_job_creation=True,
            x_disable_meta=True, x_disable_stats=True, x_disable_machine_info=True,
        )  # fmt: skip
        run = wandb.init(
            project=self.settings.project,
            name=facts.run_id,
            job_type=facts.job,
            config=dict(facts.settings),
            mode=self.settings.mode,
            dir=str(facts.folder),
            settings=quiet,
        )
        by_epoch: dict[float, dict[str, float]] = defaultdict(dict)
        for name, points in facts.curves.items():
            for x, y in points:
                by_epoch[x][name] = y
        for epoch in sorted(by_epoch):
            run.log({"epoch": epoch, **by_epoch[epoch]})
        told = {"date": facts.date, "status": facts.status, "version": facts.version, "error": facts.error}
        seconds = {f"{stage.name}.seconds": stage.seconds for stage in facts.stages}
        run.summary.update({**facts.metrics, **seconds, **told})
        run.finish(exit_code=facts.exit_code)
