"""Prints a ranked table: what a user gets, what is near an item, what a sentence finds in the aligned space."""

from collections.abc import Sequence

from crossweave.runtime.process import start

MOST = 1000  # rows of the table that is printed


def main(arguments: Sequence[str]) -> int:
    from crossweave.errors import CrossweaveError, SettingsError
    from crossweave.runtime.job import parse_with, refuse
    from crossweave.stages.query import Query

    try:
        options = {"--user": "ID", "--item": "ID", "--text": "SENTENCE", "--modality": "NAME", "--top": "N"}
        words, settings, _ = parse_with("query", arguments, options)
        asked = [name for name in ("user", "item", "text") if words[name] is not None]
        if len(asked) != 1:
            raise SettingsError("query takes exactly one of --user ID, --item ID, --text SENTENCE")
        most = words["top"] if words["top"] is not None else "10"
        if not (most.isascii() and most.isdigit() and len(most) <= len(str(MOST)) and 1 <= int(most) <= MOST):
            raise SettingsError(f"--top expects a whole number from 1 to {MOST:,}, got {most[:40]!r}")
        query, value = Query(settings), str(words[asked[0]])
        more = {"modality": words["modality"]} if asked == ["text"] else {}
        answer = getattr(query, asked[0])(value, int(most), **more)
    except CrossweaveError as error:
        return refuse(error, print)
    print(answer.title)
    width = max((len(item) for _, item, *_ in answer.rows), default=2)
    for rank, item, title, score, why in answer.rows:
        print(f"{rank:>4}  {item:<{width}}  {score:8.4f}  {title}{f' · {why}' if why else ''}")
    return 0


if __name__ == "__main__":
    start(main, print)
