"""Says what a run would do and roughly what it would cost; changes nothing."""

from collections.abc import Sequence

from crossweave.runtime.process import start


def main(arguments: Sequence[str]) -> int:
    from crossweave.runtime.job import parse
    from crossweave.runtime.plan import last_seconds, plan_context
    from crossweave.stages import demo, embed, evaluate, ingest, score, tensors, train

    settings, date = parse("plan", arguments)
    context = plan_context(settings, date)
    if demo.reads_demo(settings) and not (demo.demo_folder(settings) / "items.parquet").is_file():
        print(f"the demo shop would be made at {demo.demo_folder(settings)}, then every stage would run on it")
        return 0
    first, changed = ingest.plan_ingest(context)
    lines = [first, *embed.plan_embed(context, changed)]
    running = any(line.runs for line in lines)
    for line in lines:
        print(f"  {line.stage:<14} {'runs' if line.runs else 'nothing to do':<14} {line.what}")
    for name, stage in (("tensors", tensors), ("train", train), ("score", score), ("evaluate", evaluate)):
        running = running or not stage.is_current(context)
        seconds = last_seconds(context, name)
        cost = f"took {seconds:,.0f} s when it last ran" if running and seconds is not None else ""
        print(f"  {name:<14} {'runs' if running else 'nothing to do':<14} {cost}")
    return 0


if __name__ == "__main__":
    start(main, print)
