"""Checks this machine and says how to mend each finding."""

import os
from collections.abc import Sequence
from pathlib import Path

from crossweave.runtime.process import start


def main(arguments: Sequence[str]) -> int:
    from crossweave.runtime.doctor import examine
    from crossweave.runtime.job import parse

    settings, _ = parse("doctor", arguments)
    here = Path(__file__).resolve().parents[1] / "conf" / "spark" / "local.conf"
    findings = list(examine(settings, Path(os.environ.get("CROSSWEAVE_SPARK_CONF", here))))
    for finding in findings:
        print(f"  {'ok  ' if finding.ok else 'MEND'}  {finding.name:<14} {finding.found}")
        if not finding.ok:
            print(f"        what to do: {finding.mend}")
    wrong = sum(not finding.ok for finding in findings)
    print(f"{wrong} of {len(findings)} checks need mending" if wrong else f"all {len(findings)} checks are well")
    return 2 if wrong else 0


if __name__ == "__main__":
    start(main, print)
