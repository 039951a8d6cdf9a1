"""Checks this machine and says how to mend each finding."""

import os
import sys
from pathlib import Path

from crossweave.errors import CrossweaveError
from crossweave.redaction import redacted
from crossweave.runtime.doctor import examine
from crossweave.runtime.job import parse, refuse


def say(line: str) -> None:
    print(redacted(line))


def main(arguments: list[str]) -> int:
    try:
        settings, _ = parse("doctor", arguments)
    except CrossweaveError as error:
        return refuse(error, print)
    here = Path(__file__).resolve().parents[1] / "conf" / "spark" / "local.conf"
    findings = list(examine(settings, Path(os.environ.get("CROSSWEAVE_SPARK_CONF", here))))
    for finding in findings:
        say(f"  {'ok  ' if finding.ok else 'MEND'}  {finding.name:<14} {finding.found}")
        if not finding.ok:
            say(f"        what to do: {finding.mend}")
    wrong = sum(not finding.ok for finding in findings)
    print(f"{wrong} of {len(findings)} checks need mending" if wrong else f"all {len(findings)} checks are well")
    return 2 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
