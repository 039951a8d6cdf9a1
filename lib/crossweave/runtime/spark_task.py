"""What Spark gave to the task that runs here."""

from __future__ import annotations

from pyspark import TaskContext


def assigned() -> tuple[str | None, int]:
    """Return the address of the task's GPU, if it has one, and its CPUs."""
    local = TaskContext.get()
    gpu = local.resources().get("gpu") if local else None
    return gpu.addresses[0] if gpu else None, max(1, local.cpus() if local else 1)
