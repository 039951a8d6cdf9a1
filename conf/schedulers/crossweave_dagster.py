"""A night of Crossweave as a Dagster job: one op a stage, tried again on exit code 75 alone.

`dagster dev -f conf/schedulers/crossweave_dagster.py`. Settings are environment variables of the code location, named
in docs/schedulers.md; a partition is a date.
"""

import os
import shlex
import sys
from pathlib import Path

import dagster as dg

sys.path.insert(0, str(Path(__file__).resolve().parent))  # Dagster loads a file without its folder

import crossweave_night

NIGHT = crossweave_night.Night.of(os.environ)
NAME = os.environ.get("CROSSWEAVE_NAME", "crossweave")


class Words(dg.Config):
    """More words for ./submit.sh, in this run alone."""

    words: str = ""


def stage_op(stage: str) -> dg.OpDefinition:
    """Return the op that runs a stage."""

    @dg.op(name=stage, ins={"after": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing), pool=NAME)
    def run_stage(context: dg.OpExecutionContext, config: Words) -> None:
        outcome = crossweave_night.run(stage, context.partition_key, NIGHT, more=shlex.split(config.words))
        where = {"record": outcome.record, "report": outcome.report, "exit code": outcome.code}
        if outcome.again:
            context.log.warning(str(outcome))
            raise dg.RetryRequested(NIGHT.retries, 60 * NIGHT.retry_minutes * 2**context.retry_number)
        if outcome.code:
            raise dg.Failure(str(outcome), metadata=where, allow_retries=False)
        context.add_output_metadata(where)

    return run_stage


@dg.failure_hook
def tell(context: dg.HookContext) -> None:
    """Tell who is on call of an op that will not be tried again."""
    crossweave_night.alert(f"{context.op.name}: {context.op_exception}", NIGHT)


@dg.job(
    name=NAME,
    partitions_def=dg.DailyPartitionsDefinition("2026-01-01", timezone="UTC", end_offset=1),  # today is one too
    hooks={tell},
    tags={NAME: "night", "dagster/max_runtime": int(3600 * float(os.environ.get("CROSSWEAVE_NIGHT_HOURS", "20")))},
)
def night() -> None:
    """Chain the stages."""
    before = stage_op(NIGHT.stages[0])()
    for name in NIGHT.stages[1:]:
        before = stage_op(name)(before)


@dg.schedule(job=night, cron_schedule=os.environ.get("CROSSWEAVE_SCHEDULE", "15 2 * * *"), execution_timezone="UTC")
def every_night(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Ask for the night of the schedule's date; the key makes a date start once."""
    date = context.scheduled_execution_time.date().isoformat()
    return dg.RunRequest(run_key=date, partition_key=date)


definitions = dg.Definitions(jobs=[night], schedules=[every_night])
