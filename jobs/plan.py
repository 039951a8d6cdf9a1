"""Says what a run would do and roughly what it would cost; changes nothing."""

from collections.abc import Sequence

from crossweave.runtime.process import start


def main(arguments: Sequence[str]) -> int:
    from crossweave import pipeline
    from crossweave.runtime.job import parse
    from crossweave.runtime.plan import last_seconds, plan_context
    from crossweave.stages.demo import DEMO, demo_folder
    from crossweave.stages.embed import EMBED, plan_embed
    from crossweave.stages.export import EXPORT
    from crossweave.stages.ingest import INGEST, plan_ingest
    from crossweave.stages.pretrain import PRETRAIN, plan_pretrain

    settings, date = parse("plan", arguments)
    context, chain = plan_context(settings, date), pipeline.stages(settings)
    if DEMO in chain and not (demo_folder(settings) / "items.parquet").is_file():
        print(f"the demo shop would be made at {demo_folder(settings)}, then every stage would run on it")
        return 0
    first, changed = plan_ingest(context)
    lines, learning = [first], set[str]()
    if PRETRAIN in chain:
        line, learning = plan_pretrain(context)
        lines.append(line)
    lines += plan_embed(context, changed, learning)
    running = any(line.runs for line in lines)
    for line in lines:
        print(f"  {line.stage:<14} {'runs' if line.runs else 'nothing to do':<14} {line.what}")
    for stage in chain:
        if stage in (DEMO, INGEST, PRETRAIN, EMBED, EXPORT):
            continue
        running = running or not stage.is_current(context)
        seconds = last_seconds(context, stage.name)
        cost = f"took {seconds:,.0f} s when it last ran" if running and seconds is not None else ""
        print(f"  {stage.name:<14} {'runs' if running else 'nothing to do':<14} {cost}")
    return 0


if __name__ == "__main__":
    start(main, print)
