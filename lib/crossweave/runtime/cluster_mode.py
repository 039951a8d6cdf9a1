"""Hands a job to a cluster that runs its driver too, and says how it ended as the workspace tells it.

What the driver prints stays in the cluster's logs there, and spark-submit's own code is 0 or 1: the record of the run
is the truth, wherever the driver ran.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossweave.config import Settings
from crossweave.config.load import REPOSITORY_CONF
from crossweave.config.places import paths_of
from crossweave.errors import SettingsError, TryAgainError
from crossweave.runtime.job import conclude, parse, tell_stage
from crossweave.runtime.run import RUN_TOKEN
from crossweave.runtime.spark_conf import read_spark_conf, spark_conf_text
from crossweave.runtime.stores_of_spark import HANDED_ON, beside, jars_for, schemes_of
from crossweave.storage.location import Location, is_url
from crossweave.storage.records import read_json

Say = Callable[[str], None]
OF_THE_DRIVER = "spark.yarn.appMasterEnv."
PLAIN = {"LC_ALL": "C.UTF-8", "PYTHONWARNINGS": "ignore::FutureWarning"}
"""What a driver's process needs everywhere: Java names files in the letters of its locale, Petastorm's are no news."""
_FROM_ENVIRONMENT = re.compile(r"\$\{oc\.env:\s*([A-Za-z_][A-Za-z0-9_]*)")
_SUBMITTED = re.compile(r"Submitted application (application_\d+_\d+)")
STOP_SECONDS = 6  # for the cluster to be told; runtime/stopping.py ends this process soon after
LAST_LINES = 20  # of what spark-submit says, for when it fails


@dataclass(frozen=True)
class Handed:
    """What travels with a job: the driver's words, the files beside it and the settings of Spark."""

    words: list[str]
    files: list[str]  # as spark-submit takes them: PATH#NAME
    settings: dict[str, str]


def hand_over(job: Path, spark_conf: Path, package: Path, arguments: Sequence[str], say: Say) -> int:
    """Run a job on a cluster and return its exit code: that of the record, which is told as the job would.

    `package` is the zip of this code. Raises SettingsError for settings that the job would refuse, before anything is
    handed over, and where the driver never began; TryAgainError where the cluster did not take the job.
    """
    settings, date = parse(job.stem, arguments)
    token = uuid.uuid4().hex[:6]
    handed = _handed(settings, [*arguments, "--date", date.isoformat()], read_spark_conf(spark_conf), token)
    with tempfile.TemporaryDirectory(prefix="crossweave-") as folder:
        conf = Path(folder) / "spark.conf"  # in a folder that this user alone can read: it may hold keys
        conf.write_text(spark_conf_text(handed.settings), encoding="utf-8")
        options = ["--properties-file", str(conf), "--deploy-mode", "cluster", "--py-files", _joined(package, handed)]
        options += ["--files", ",".join(filter(None, [*handed.files, handed.settings.get("spark.files", "")]))]
        application, said = _submit([*options, str(job), *handed.words], say)
    record = _record(Location.of(settings.workspace), token)
    if record is None:
        raise _without_record(application, said)
    return _tell(record, say)


def _handed(settings: Settings, arguments: Sequence[str], given: dict[str, str], token: str) -> Handed:
    for name, path in paths_of(settings).items():
        if not is_url(path) and not path.startswith("/"):
            raise SettingsError(
                f"{name}={path} is relative to this folder, and the driver will run on another machine",
                "name a place that every machine sees, say hdfs:///user/me/ws",
            )
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--conf", action="append", default=[])
    own, rest = parser.parse_known_args(list(arguments))
    confs = [Path(file).resolve() for file in own.conf or [REPOSITORY_CONF / "local.yaml"]]
    names = [f"settings-{number}.yaml" for number in range(len(confs))]
    words = [word for name in names for word in ("--conf", name)] + rest
    texts = "".join(file.read_text(encoding="utf-8") for file in confs) + " ".join(rest)
    wanted = {*HANDED_ON, *_FROM_ENVIRONMENT.findall(texts)}
    variables = PLAIN | {name: os.environ[name] for name in wanted if name in os.environ} | {RUN_TOKEN: token}
    spark = {f"{OF_THE_DRIVER}{name}": value for name, value in sorted(variables.items())}
    files = [f"{file}#{name}" for file, name in zip(confs, names, strict=True)]
    return Handed(words, files, spark | given | beside(jars_for(schemes_of(settings)), given))


def _joined(package: Path, handed: Handed) -> str:
    return ",".join(filter(None, [str(package), handed.settings.get("spark.submit.pyFiles", "")]))


def _submit(words: Sequence[str], say: Say) -> tuple[str, list[str]]:
    """Run spark-submit to its end; returns the application's id and the last lines that were said."""
    home = Path(os.environ["SPARK_HOME"])
    log = REPOSITORY_CONF / "spark" / "submit-log4j2.properties"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # the package goes along
    environment["SPARK_SUBMIT_OPTS"] = f"-Dlog4j2.configurationFile=file:{log}"
    application, said = "", list[str]()
    with subprocess.Popen(
        [str(home / "bin" / "spark-submit"), *words],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        try:
            for line in process.stderr or ():
                said = [*said[-LAST_LINES:], line.strip()]
                found = _SUBMITTED.search(line)
                if found:
                    application = found[1]
                    say(f"{application}: its driver runs on the cluster")
        except BaseException:
            process.kill()
            if application:
                _stop(home, application, environment)
            raise
    return application, said


def _stop(home: Path, application: str, environment: dict[str, str]) -> None:
    command = [str(home / "bin" / "spark-class"), "org.apache.hadoop.yarn.client.cli.ApplicationCLI"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*command, "-kill", application], env=environment, check=False, timeout=STOP_SECONDS, **quiet)  # type: ignore[call-overload]


def _record(workspace: Location, token: str) -> Location | None:
    """Return the record of the run that the driver began; the last one, where the cluster began it twice."""
    runs = [run for run in (workspace / "runs").children() if run.name.endswith(f"-{token}")]
    places = [place for place in (run / "run_result.json" for run in runs) if place.is_file()]
    return places[-1] if places else None


def _tell(place: Location, say: Say) -> int:
    result: dict[str, Any] = read_json(place)
    say(f"crossweave {result['job']} · {result['date']} · run {result['run_id']}")
    for stage in result["stages"]:
        say(tell_stage(stage))
    conclude(result, place, say)
    return int(result["exit_code"])


def _without_record(application: str, said: Sequence[str]) -> Exception:
    if application:
        return SettingsError(
            f"the driver of {application} ended before it could begin",
            f"`yarn logs -applicationId {application}` says why: no such spark.pyspark.python, or no such encoder",
        )
    faults = [line for line in said if "Exception" in line or "Error" in line] or list(said[-1:])
    return TryAgainError(f"the cluster did not take the job: {(faults or ['spark-submit said nothing'])[0][:300]}")
