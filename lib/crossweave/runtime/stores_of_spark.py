"""What Spark must be told of the stores that a run uses: jars, and what the environment says of them.

Credentials stay in the environment, where Hadoop, delta-rs and fsspec all look for them; on a cluster the executors get
the same variables.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from crossweave.config import Settings
from crossweave.config.places import paths_of
from crossweave.storage.location import Location

S3_PACKAGES = (
    "org.apache.hadoop:hadoop-aws:3.3.4",
    "com.amazonaws:aws-java-sdk-s3:1.12.262",
    "com.amazonaws:aws-java-sdk-sts:1.12.262",
    "com.amazonaws:aws-java-sdk-dynamodb:1.12.262",
)
"""The S3 client of the Hadoop that PySpark 3.5 carries; Amazon's bundle of 280 MB is left out for the parts needed."""
S3_EXCLUDES = "com.amazonaws:aws-java-sdk-bundle"
S3_JARS = (
    "org.apache.hadoop_hadoop-aws-3.3.4.jar",
    "org.wildfly.openssl_wildfly-openssl-1.0.7.Final.jar",
    *(f"com.amazonaws_aws-java-sdk-{part}-1.12.262.jar" for part in ("core", "dynamodb", "kms", "s3", "sts")),
    "com.amazonaws_jmespath-java-1.12.262.jar",
    "com.fasterxml.jackson.core_jackson-annotations-2.12.6.jar",
    "com.fasterxml.jackson.core_jackson-core-2.12.6.jar",
    "com.fasterxml.jackson.core_jackson-databind-2.12.6.1.jar",
    "com.fasterxml.jackson.dataformat_jackson-dataformat-cbor-2.12.6.jar",
    "commons-codec_commons-codec-1.15.jar",
    "commons-logging_commons-logging-1.1.3.jar",
    "joda-time_joda-time-2.8.1.jar",
    "org.apache.httpcomponents_httpclient-4.5.13.jar",
    "org.apache.httpcomponents_httpcore-4.4.13.jar",
    "software.amazon.ion_ion-java-1.0.2.jar",
)
"""What those packages bring, as Ivy names it."""

IVY = Path.home() / ".ivy2" / "jars"
"""Where Spark keeps what it has fetched."""

HANDED_ON = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "CROSSWEAVE_COPIES_GB",
)
"""Variables that the workers need as the driver has them."""


def schemes_of(settings: Settings) -> set[str]:
    """Return the stores that a run reads or writes."""
    return {Location.of(path).scheme for path in paths_of(settings).values()}


def jars_for(schemes: set[str]) -> dict[str, str]:
    """Return the Spark settings that bring a store's client; they must be known before the JVM starts."""
    if "s3" not in schemes:
        return {}
    return {"spark.jars.packages": ",".join(S3_PACKAGES), "spark.jars.excludes": S3_EXCLUDES}


def beside(options: Mapping[str, str], given: Mapping[str, str], kept: Path = IVY) -> dict[str, str]:
    """Return these settings so that they take nothing from those given; empty where the given ones bring that client.

    Jars that an earlier start has fetched are named themselves: Ivy would say on the screen what it finds.
    """
    lists = ("spark.jars", "spark.jars.packages", "spark.jars.excludes")
    if not options or any("hadoop-aws" in given.get(name, "") for name in lists[:2]):
        return {}
    if set(lists[1:]) >= set(options) and not any(given.get(name) for name in (*lists[1:], "spark.jars.ivy")):
        found = [kept / name for name in S3_JARS]
        options = {"spark.jars": ",".join(map(str, found))} if all(path.is_file() for path in found) else options
    return {name: ",".join(filter(None, (given.get(name, ""), value))) for name, value in options.items()}


def store_settings(
    schemes: set[str], environment: Mapping[str, str] = os.environ, executors: bool = True
) -> dict[str, str]:
    """Return the Spark settings of the stores, as the environment has them; `executors` elsewhere do not have it."""
    handed = [name for name in HANDED_ON if executors and name in environment]
    settings = {f"spark.executorEnv.{name}": environment[name] for name in handed}
    if "s3" not in schemes:
        return settings
    a = "spark.hadoop.fs.s3a"
    settings[f"{a}.directory.marker.retention"] = "keep"  # servers that keep folders retry their removal for minutes
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if region:
        settings[f"{a}.endpoint.region"] = region
    endpoint = environment.get("AWS_ENDPOINT_URL")
    if endpoint:
        plain = "false" if endpoint.startswith("http:") else "true"
        settings |= {f"{a}.endpoint": endpoint, f"{a}.path.style.access": "true", f"{a}.connection.ssl.enabled": plain}
    return settings
