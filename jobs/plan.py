"""Says what a run would do and roughly what it would cost; changes nothing."""

import sys

from crossweave.errors import CrossweaveError
from crossweave.redaction import redacted
from crossweave.runtime.job import parse, refuse
from crossweave.runtime.plan import last_seconds, plan_context
from crossweave.stages import embed, evaluate, ingest, score, tensors, train
from crossweave.stages.demo import demo_folder, reads_demo

LATER = (("tensors", tensors), ("train", train), ("score", score), ("evaluate", evaluate))


def say(line: str) -> None:
    print(redacted(line))


def main(arguments: list[str]) -> int:
    try:
        settings, date = parse("plan", arguments)
        context = plan_context(settings, date)
        if reads_demo(settings) and not (demo_folder(settings) / "items.parquet").is_file():
            say(f"the demo shop would be made at {demo_folder(settings)}, then every stage would run on it")
            return 0
        first, changed = ingest.plan_ingest(context)
        lines = [first, *embed.plan_embed(context, changed)]
        running = any(line.runs for line in lines)
        for line in lines:
            say(f"  {line.stage:<14} {'runs' if line.runs else 'nothing to do':<14} {line.what}")
        for name, stage in LATER:
            running = running or not stage.is_current(context)
            seconds = last_seconds(context, name)
            cost = f"took {seconds:,.0f} s when it last ran" if running and seconds is not None else ""
            say(f"  {name:<14} {'runs' if running else 'nothing to do':<14} {cost}")
        return 0
    except CrossweaveError as error:
        return refuse(error, print)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
