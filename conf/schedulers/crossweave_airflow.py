"""A night of Crossweave as an Airflow DAG: one task a stage, tried again on exit code 75 alone.

Link this file into the DAGs folder. Settings are environment variables of the workers, named in docs/schedulers.md, and
the parameter `words` of a single run.
"""

from __future__ import annotations

import datetime
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, BaseOperator, Param, chain
from airflow.sdk.exceptions import AirflowException, AirflowFailException

sys.path.insert(0, str(Path(__file__).resolve().parent))  # of the checkout, where this file is a link

import crossweave_night

NIGHT = crossweave_night.Night.of(os.environ)
MINUTES = datetime.timedelta(minutes=1)


def date_of(context: Any) -> str:
    """Return a run's date: the logical one, or that of a run by hand that has none."""
    run = context["dag_run"]
    return str((run.logical_date or run.run_after).date())


class StageOperator(BaseOperator):
    """Runs the stage that its task is named after."""

    process: subprocess.Popen[str] | None = None

    def execute(self, context: Any) -> dict[str, str]:
        """Return where record and report lie; raises what makes Airflow try again, or not."""
        more = shlex.split(context["params"]["words"])
        outcome = crossweave_night.run(self.task_id, date_of(context), NIGHT, more=more, started=self._keep)
        if outcome.again:
            raise AirflowException(str(outcome))
        if outcome.code:
            raise AirflowFailException(str(outcome))
        return {"record": outcome.record, "report": outcome.report, "status": str(outcome.result.get("status"))}

    def on_kill(self) -> None:
        """Stop the job; Airflow kills this process some seconds later, and the job ends on its own."""
        if self.process is not None:
            self.process.terminate()

    def _keep(self, process: subprocess.Popen[str]) -> None:
        self.process = process


def tell(context: Any) -> None:
    """Tell who is on call of a task that will not be tried again."""
    crossweave_night.alert(f"{context['ti'].task_id} of {date_of(context)}: {context['exception']}", NIGHT)


with DAG(
    dag_id=os.environ.get("CROSSWEAVE_NAME", "crossweave"),
    schedule=os.environ.get("CROSSWEAVE_SCHEDULE", "15 2 * * *"),
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),  # noqa: UP017
    catchup=False,  # a stage reads the input as it lies today: a night that was missed is in the next one
    max_active_runs=1,
    dagrun_timeout=datetime.timedelta(hours=float(os.environ.get("CROSSWEAVE_NIGHT_HOURS", "20"))),
    params={"words": Param("", type="string", description="more words for ./submit.sh, in this run alone")},
    default_args={
        "retries": NIGHT.retries,
        "retry_delay": NIGHT.retry_minutes * MINUTES,
        "retry_exponential_backoff": True,
        "max_retry_delay": 60 * MINUTES,
        # The job is stopped by its own limit, and says so; this one is for a worker that hangs.
        "execution_timeout": datetime.timedelta(hours=NIGHT.hours) + 10 * MINUTES,
        "pool": os.environ.get("CROSSWEAVE_POOL", "default_pool"),
        "queue": os.environ.get("CROSSWEAVE_QUEUE", "default"),
        "on_failure_callback": tell,
    },
    tags=["crossweave"],
    doc_md=__doc__,
) as dag:
    chain(*(StageOperator(task_id=stage) for stage in NIGHT.stages))
