"""What Spark must be told of the stores that a run uses: jars, and what the environment says of them.

Credentials stay in the environment, where Hadoop, delta-rs and fsspec all look for them; on a cluster the executors get
the same variables.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from crossweave.config import Settings
from crossweave.storage.location import Location

S3_PACKAGES = (
    "org.apache.hadoop:hadoop-aws:3.3.4",
    "com.amazonaws:aws-java-sdk-s3:1.12.262",
    "com.amazonaws:aws-java-sdk-sts:1.12.262",
    "com.amazonaws:aws-java-sdk-dynamodb:1.12.262",
)
"""The S3 client of the Hadoop that PySpark 3.5 carries; Amazon's bundle of 280 MB is left out for the parts needed."""
S3_EXCLUDES = "com.amazonaws:aws-java-sdk-bundle"
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
    given = settings.inputs
    paths = [settings.workspace, settings.export.path, given.items.path, given.interactions.path]
    paths += [given.users.path, given.blocks.path]
    return {Location.of(path).scheme for path in paths if path is not None}


def jars_for(schemes: set[str]) -> dict[str, str]:
    """Return the Spark settings that bring a store's client; they must be known before the JVM starts."""
    if "s3" not in schemes:
        return {}
    return {"spark.jars.packages": ",".join(S3_PACKAGES), "spark.jars.excludes": S3_EXCLUDES}


def store_settings(schemes: set[str], environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the Spark settings of the stores, as the environment has them."""
    settings = {f"spark.executorEnv.{name}": environment[name] for name in HANDED_ON if name in environment}
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
