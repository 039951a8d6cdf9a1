"""What Kubernetes is given: shapes, settings that are settings, and the image that both manifests name."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pyspark
import pytest
import yaml
from environments import Environment
from manifests import FOLDER, SCHEDULED_SPARK_APPLICATION, documents, faults, of_kind
from support import REPOSITORY

from crossweave import errors, pipeline
from crossweave.config import Settings, load_settings
from crossweave.runtime.job import parse
from crossweave.runtime.spark_conf import read_spark_conf
from crossweave.runtime.stores_of_spark import S3_EXCLUDES, S3_PACKAGES

OPERATOR, CRON = "kubernetes.yaml", "kubernetes-cronjob.yaml"
HOME = "/opt/crossweave"
"""Where the image has the checkout."""
OF_RANKS = ("spark.speculation", "spark.dynamicAllocation.enabled")
OF_SIZE = ("instances", "cores", "memory", "memoryOverhead")


def template() -> dict[str, Any]:
    return dict(of_kind(OPERATOR, "ScheduledSparkApplication")["spec"]["template"])


def image_file() -> str:
    return (FOLDER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")


def conf_of_cronjob(folder: Path) -> dict[str, str]:
    (folder / "spark.conf").write_text(of_kind(CRON, "ConfigMap", "crossweave-spark")["data"]["spark.conf"])
    return read_spark_conf(folder / "spark.conf")


@pytest.fixture
def night_file(tmp_path: Path) -> Path:
    """The settings of the ConfigMap, as a file."""
    (tmp_path / "night.yaml").write_text(of_kind(OPERATOR, "ConfigMap")["data"]["night.yaml"], encoding="utf-8")
    return tmp_path / "night.yaml"


@pytest.fixture
def settings(night_file: Path) -> Settings:
    """What those settings are."""
    return load_settings([night_file])


def test_the_custom_resource_has_the_fields_of_the_operator_and_no_others() -> None:
    resource = of_kind(OPERATOR, "ScheduledSparkApplication")
    assert list(faults(resource, SCHEDULED_SPARK_APPLICATION)) == []
    broken = json.loads(json.dumps(resource))
    broken["spec"]["template"]["driver"]["envfrom"] = broken["spec"]["template"]["driver"].pop("envFrom")
    broken["spec"]["template"]["sparkConf"]["spark.speculation"] = False  # what YAML makes of it without its quotes
    assert list(faults(broken, SCHEDULED_SPARK_APPLICATION)) == [
        ".spec.template.sparkConf.spark.speculation is False, which is no str",
        ".spec.template.driver.envFrom is missing",
        ".spec.template.driver.envfrom is no field",
    ]


def test_one_night_runs_at_a_time_and_the_operator_starts_none_again() -> None:
    spec = of_kind(OPERATOR, "ScheduledSparkApplication")["spec"]
    assert (spec["concurrencyPolicy"], spec["template"]["restartPolicy"]["type"]) == ("Forbid", "Never")
    assert of_kind(CRON, "CronJob")["spec"]["concurrencyPolicy"] == "Forbid"
    assert of_kind(CRON, "CronJob")["spec"]["schedule"] == spec["schedule"]


def test_the_cronjob_gives_up_at_once_on_every_exit_code_but_75() -> None:
    named = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    assert named >= {1, 2, 3, 4, 75}
    job = of_kind(CRON, "CronJob")["spec"]["jobTemplate"]["spec"]
    (rule,) = (rule["onExitCodes"] for rule in job["podFailurePolicy"]["rules"] if rule["action"] == "FailJob")
    assert (rule["operator"], set(rule["values"])) == ("In", named - {75})
    assert rule["containerName"] == job["template"]["spec"]["containers"][0]["name"]
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # else the rules are refused


def test_the_settings_of_the_configmap_are_a_whole_night_of_ones_own(settings: Settings, night_file: Path) -> None:
    stages = [stage.name for stage in pipeline.stages(settings)]
    assert stages == ["ingest", "embed", "tensors", "train", "score", "evaluate"]
    for stage in pipeline.stages(settings):
        stage.check(settings)
    (mounted,) = (one for one in template()["driver"]["configMaps"] if one["name"] == "crossweave")
    words = [word.replace(mounted["path"], str(night_file.parent)) for word in template()["arguments"]]
    assert parse("pipeline", words)[0] == settings


def test_both_ways_ask_spark_for_what_the_settings_file_of_yarn_asks_for(settings: Settings, tmp_path: Path) -> None:
    yarn = read_spark_conf(REPOSITORY / "conf" / "spark" / "yarn.conf")
    standalone = read_spark_conf(REPOSITORY / "conf" / "spark" / "standalone.conf")
    own, cron, executor = template()["sparkConf"], conf_of_cronjob(tmp_path), template()["executor"]
    for name in OF_RANKS:
        assert own[name] == cron[name] == yarn[name] == standalone[name] == "false"
    for name in OF_SIZE:
        assert str(executor[name]) == cron[f"spark.executor.{name}"] == yarn[f"spark.executor.{name}"]
    assert template()["driver"]["memory"] == cron["spark.driver.memory"] == yarn["spark.driver.memory"]
    assert executor["instances"] * executor["cores"] >= settings.train.ranks


def test_both_ways_run_the_same_image_with_the_python_and_the_code_in_it(tmp_path: Path) -> None:
    cron, container = conf_of_cronjob(tmp_path), of_kind(CRON, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]
    images = {template()["image"], cron["spark.kubernetes.container.image"]}
    assert images == {one["image"] for one in container["spec"]["containers"]}
    assert f"-t {images.pop()} ." in image_file()
    variables = dict(re.findall(r"(\w+)=(/\S+)", image_file()))
    assert template()["sparkConf"]["spark.pyspark.python"] == cron["spark.pyspark.python"]
    assert variables["PYSPARK_PYTHON"] == cron["spark.pyspark.python"] == f"{HOME}/.venv/bin/python"
    assert template()["sparkConf"]["spark.executorEnv.PYTHONPATH"] == variables["PYTHONPATH"] == f"{HOME}/lib"
    assert template()["sparkVersion"] == pyspark.__version__
    job = template()["mainApplicationFile"].removeprefix(f"local://{HOME}/")
    assert (REPOSITORY / job).is_file()


def test_the_image_is_made_of_what_is_here_and_of_the_jars_that_the_code_names() -> None:
    text = image_file()
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
        assert all((REPOSITORY / name).exists() for name in line.split()[:-1]), line
    assert f"--packages {','.join(S3_PACKAGES)} " in text and f"--exclude-packages {S3_EXCLUDES} " in text
    assert f"spark.jars.ivy={HOME}/.ivy2 " in text and f"HOME={HOME} " in text  # where the entry point looks
    (entry,) = re.findall(r"^ENTRYPOINT (.+)$", text, re.MULTILINE)
    program = REPOSITORY / json.loads(entry)[-1].removeprefix(f"{HOME}/")
    assert os.access(program, os.X_OK)


def test_the_pod_of_the_cronjob_tells_spark_its_own_address_and_name(tmp_path: Path) -> None:
    container = of_kind(CRON, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    given = conf_of_cronjob(tmp_path)
    (script,) = container["args"]
    before, command = script.rsplit("exec ", 1)
    assert command.strip() == f"./submit.sh pipeline --spark-conf /tmp/spark.conf --conf {template()['arguments'][1]}"
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    before = before.replace(mounts["spark"], str(tmp_path)).replace("/tmp/spark.conf", str(tmp_path / "all.conf"))
    pod = {"POD_IP": "10.1.2.3", "POD_NAMESPACE": "shop", "POD_NAME": "crossweave-29-x"}
    assert set(pod) == {one["name"] for one in container["env"]}
    subprocess.run([*container["command"][3:], before], env=os.environ | pod, check=True, cwd=tmp_path)
    assert read_spark_conf(tmp_path / "all.conf") == given | {
        "spark.driver.host": "10.1.2.3",
        "spark.kubernetes.namespace": "shop",
        "spark.kubernetes.driver.pod.name": "crossweave-29-x",
    }


@pytest.mark.slow
def test_all_but_the_custom_resource_are_valid_for_kubernetes(environment: Environment, tmp_path: Path) -> None:
    program = environment("kubernetes") / "kubernetes-validate"
    core = [one for file in (OPERATOR, CRON) for one in documents(file) if "sparkoperator" not in one["apiVersion"]]
    assert sorted(one["kind"] for one in core) == [
        "ConfigMap",
        "ConfigMap",
        "CronJob",
        "Role",
        "RoleBinding",
        "ServiceAccount",
    ]

    def said(resources: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
        file = tmp_path / "core.yaml"
        file.write_text(yaml.safe_dump_all(resources), encoding="utf-8")
        return subprocess.run([program, "--strict", file], capture_output=True, text=True, timeout=120)

    valid = said(core)
    assert valid.returncode == 0, valid.stdout + valid.stderr
    spec = next(one for one in core if one["kind"] == "CronJob")["spec"]
    spec["jobTemplate"]["spec"]["backofLimit"] = spec["jobTemplate"]["spec"].pop("backoffLimit")
    assert "backofLimit" in (refused := said(core)).stdout + refused.stderr and refused.returncode != 0
