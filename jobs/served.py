"""Prints what was served when, the newest first; changes nothing."""

from collections.abc import Sequence

from crossweave.runtime.process import start


def main(arguments: Sequence[str]) -> int:
    from crossweave.errors import CrossweaveError
    from crossweave.runtime.job import parse, refuse
    from crossweave.runtime.nights import served_of

    try:
        settings, _ = parse("served", arguments)
        rows = served_of(settings)
    except CrossweaveError as error:
        return refuse(error, print)
    if not any(row.kind == "now" for row in rows):
        print("nothing is served")
    for row in rows:
        mark = {"now": "→ served now", "before": "  was served", "refused": "✗ refused"}[row.kind]
        lists = f"recommendations {row.lists if row.lists is not None else '–'}, model {row.model}" if row.model else ""
        figure = f"{row.figure.name} {row.figure.value:.4f}" if row.figure is not None else ""
        print(f"{mark:<12}  {row.when[:16] or '–':<16}  {row.run_id}  of {row.date}")
        print("".join(f"              {line}\n" for line in (lists, figure, row.why) if line), end="")
    return 0


if __name__ == "__main__":
    start(main, print)
