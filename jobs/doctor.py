"""Checks this machine and says how to mend each finding."""

import os
from collections.abc import Sequence
from pathlib import Path

from crossweave.runtime.process import start


def main(arguments: Sequence[str]) -> int:
    from crossweave.runtime.doctor import examine
    from crossweave.runtime.job import parse_with

    own, settings, _ = parse_with("doctor", arguments, {"--spark-conf": "FILE"})
    here = Path(__file__).resolve().parents[1] / "conf" / "spark" / "local.conf"
    given = own["spark-conf"]
    findings = []
    for finding in examine(settings, Path(given or os.environ.get("CROSSWEAVE_SPARK_CONF", here)), given is not None):
        findings.append(finding)
        print(f"  {'ok  ' if finding.ok else 'WARN' if finding.warns else 'MEND'}  {finding.name:<14} {finding.found}")
        if not finding.ok:
            print(f"        what to do: {finding.mend}")
    wrong = sum(finding.must_be_mended for finding in findings)
    warned = sum(not finding.ok for finding in findings) - wrong
    well = f"nothing needs mending, {warned} warn" if warned else f"all {len(findings)} checks are well"
    print(f"{wrong} of {len(findings)} checks need mending" if wrong else well)
    return 2 if wrong else 0


if __name__ == "__main__":
    start(main, print)
