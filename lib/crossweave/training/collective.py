"""Horovod: starts the ranks as Spark tasks and gives each its collective operations. Nothing else imports it."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from crossweave.storage.location import Location
from crossweave.training.rank_ends import (
    end_plainly,
    first_failure,
    forget_reports,
    reports,
    signal_handlers_kept,
    write_report,
)

Result = TypeVar("Result")
END_SECONDS = 15  # that ranks have to end in after one has failed
LOOK_SECONDS = 1.0  # between two looks for a failed rank
RESETS = 20  # ranks lost or joined in one elastic run; a fault that comes back must end it


@dataclass(frozen=True)
class Limits:
    """How long to wait for ranks, and how few of them may go on."""

    start_seconds: int  # for all ranks to report in
    stall_warn_seconds: int = 60  # a rank that the others wait for is named in the ranks' output
    stall_seconds: int = 300  # after which the others give it up
    min_ranks: int | None = None  # elastic: the loss of ranks down to this many is survived; None: no loss is


class Stateful(Protocol):
    """What has weights to keep: a module, or a part of one."""

    def state_dict(self) -> dict[str, Any]:
        """Return them by name."""

    def load_state_dict(self, state: Any) -> Any:
        """Take them over."""


class Collective:
    """One rank's view of the others. A single rank needs no peers and no rendezvous."""

    def __init__(self) -> None:
        import horovod.torch as hvd
        from horovod.common.elastic import ObjectState

        self._hvd = hvd
        hvd.init()
        # Horovod's state of an elastic run holds nothing: what goes on is the checkpoint on disk.
        self._joining = ObjectState(bcast_object=hvd.broadcast_object, get_rank=hvd.rank)
        self._elastic = False
        self.attempts = 0  # at the work of an elastic run; above 1, ranks were lost or came
        self._look()

    def _look(self) -> None:
        self.rank, self.size, self.local_rank = self._hvd.rank(), self._hvd.size(), self._hvd.local_rank()

    def survive(self, work: Callable[[], Result]) -> Result:
        """Do the work, from its start again after every loss or arrival of ranks."""

        def attempt(state: Any) -> Result:
            self._look()
            self.attempts += 1
            return work()

        self._elastic = True
        done: Result = self._hvd.elastic.run(attempt)(self._joining)
        return done

    def admit(self) -> None:
        """In an elastic run, let ranks join that have come since: the work then starts again on all of them."""
        if self._elastic:
            self._joining.check_host_updates()

    def start_equal(self, model: Stateful, optimizer: torch.optim.Optimizer) -> None:
        """Give every rank the parameters and optimizer state of rank 0."""
        self._hvd.broadcast_parameters(model.state_dict(), root_rank=0)
        if optimizer.state:  # Horovod fills an empty one by a step with zero gradients, which decays the weights
            self._hvd.broadcast_optimizer_state(optimizer, root_rank=0)

    def from_first(self, value: Result) -> Result:
        """Return the value that rank 0 gave."""
        # By itself Horovod names it after the value's type, and waits for ever where the ranks' types differ.
        given: Result = self._hvd.broadcast_object(value, root_rank=0, name="from_first")
        return given

    def distribute(
        self, optimizer: torch.optim.Optimizer, model: torch.nn.Module, half: bool = False, passes: int = 1
    ) -> Any:
        """Wrap an optimizer so that a step averages the gradients of all ranks, as one fused buffer.

        With `half` the gradients travel as float16. They travel after `passes` backward passes, summed.
        """
        return self._hvd.DistributedOptimizer(
            optimizer,
            named_parameters=[(name, p) for name, p in model.named_parameters() if p.requires_grad],
            compression=self._hvd.Compression.fp16 if half else self._hvd.Compression.none,
            op=self._hvd.Average,
            backward_passes_per_step=passes,
            num_groups=1,
        )

    def sum(self, values: np.ndarray, name: str) -> np.ndarray:
        """Return the element-wise sum over all ranks, float64."""
        tensor = torch.from_numpy(np.asarray(values, np.float64))
        return np.asarray(self._hvd.allreduce(tensor, name=name, op=self._hvd.Sum).numpy())

    def gather(self, rows: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Return the rows of all ranks, rank after rank, and where this rank's begin; gradients flow back.

        Ranks may have different numbers of rows; all must call it together.
        """
        counts = self._hvd.allgather(torch.tensor([len(rows)]), name="gather.counts")
        start = int(counts[: self.rank].sum())
        gathered: torch.Tensor = _Gather.apply(rows, self._hvd, start)
        return gathered, start

    def wait(self) -> None:
        """Wait until every rank has come here."""
        self._hvd.barrier()

    def close(self) -> None:
        """Leave the group."""
        self._hvd.shutdown()


class _Gather(torch.autograd.Function):
    """All-gather whose gradient is the sum over the ranks.

    The mean over ranks of their losses then has the gradient that the optimizer's average makes of it. Horovod's own
    all-gather takes the mean in between, which would make what flows through it too small by the number of ranks.
    """

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, hvd: Any, start: int) -> torch.Tensor:
        ctx.hvd, ctx.own = hvd, slice(start, start + len(rows))
        gathered: torch.Tensor = hvd.allgather(rows, name="gather.rows")
        return gathered

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return ctx.hvd.allreduce(gradient, name="gather.gradient", op=ctx.hvd.Sum)[ctx.own], None, None


def run_ranks(
    work: Callable[..., Result],
    plan: Any,
    ranks: int,
    limits: Limits | int,
    folder: Path,
    loopback: bool,
    place: Location | None = None,
) -> Result:
    """Run `work(plan, collective)` on every rank and return what rank 0 returned.

    The ranks are tasks of the running Spark session. Their output goes to files in `folder` of this machine, what they
    say of a failure to `place`, which they see too; without one, to that folder. With `loopback` they talk to each
    other on this machine only. `limits`: or only the seconds for the ranks to report in. Raises the named error of the
    rank that failed first, TryAgainError where a rank was lost, stalled or never came.
    """
    import horovod.spark

    limits = Limits(limits) if isinstance(limits, int) else limits
    folder.mkdir(parents=True, exist_ok=True)
    place = place or Location.of(folder)
    forget_reports(place)  # of an earlier start
    # An elastic run has the time to find its ranks anew before the failure of one is the end.
    patience = END_SECONDS if limits.min_ranks is None else END_SECONDS + limits.start_seconds
    # Horovod's rendezvous is unauthenticated and carries cloudpickle (CVE-2024-10190): loopback only, where it can be.
    nics = {"lo"} if loopback else None
    with (
        (folder / "ranks.out").open("w") as out,
        (folder / "ranks.err").open("w") as err,
        _ended_after_failure(place, patience),
        signal_handlers_kept(),
        _python_of_executors(),
    ):
        env = _environment(limits, dict(os.environ) if loopback else _of_horovod())
        common = {"num_proc": ranks, "start_timeout": limits.start_seconds, "env": env, "nics": nics}
        common |= {"stdout": out, "stderr": err, "verbose": 0}
        try:
            if limits.min_ranks is None:
                results = horovod.spark.run(_rank_main, (work, plan, place, False), use_gloo=True, **common)
            else:
                results = horovod.spark.run_elastic(
                    _rank_main,
                    (work, plan, place, True),
                    min_num_proc=limits.min_ranks,
                    max_num_proc=ranks,
                    elastic_timeout=limits.start_seconds,
                    reset_limit=RESETS,
                    **common,
                )
        except Exception as error:
            raise first_failure(place, error) from error
    return results[0]


@contextmanager
def _ended_after_failure(folder: Location, seconds: float) -> Iterator[None]:
    """Cancel the ranks' Spark job where one of them reported its failure and the others are not done some time after.

    Horovod waits for the end of every rank, for ever where one's process stands still.
    """
    from pyspark import SparkContext

    over = threading.Event()

    def watch() -> None:
        failed_since: float | None = None
        while not over.wait(LOOK_SECONDS):
            if not reports(folder):
                failed_since = None
            elif failed_since is None:
                failed_since = time.monotonic()
            elif time.monotonic() - failed_since > seconds:
                SparkContext.getOrCreate().cancelAllJobs()  # of this session, which only trains at this time
                return

    thread = threading.Thread(target=watch, name="ranks", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _python_of_executors() -> Iterator[None]:
    """Let Horovod start the ranks with the Python of their tasks: it takes the driver's, which lies elsewhere there."""
    from pyspark import SparkContext

    before, sys.executable = sys.executable, str(SparkContext.getOrCreate().pythonExec)
    try:
        yield
    finally:
        sys.executable = before


def _of_horovod() -> dict[str, str]:
    """Return what is set here for Horovod; all else a rank on another machine has of its task, with paths of there."""
    return {name: value for name, value in os.environ.items() if name.startswith(("HOROVOD_", "NCCL_"))}


def _environment(limits: Limits, given: dict[str, str]) -> dict[str, str]:
    return given | {
        # A rank that lives but does not come is found by Horovod, one whose process stands still by Gloo.
        "HOROVOD_STALL_CHECK_TIME_SECONDS": str(min(limits.stall_warn_seconds, limits.stall_seconds)),
        "HOROVOD_STALL_SHUTDOWN_TIME_SECONDS": str(limits.stall_seconds),
        "HOROVOD_GLOO_TIMEOUT_SECONDS": str(limits.stall_seconds),
        "PYTHONWARNINGS": "ignore",
        # glibc gives big blocks back after each use, and the kernel zeroes them anew: 5 to 10 % of a CPU step.
        "MALLOC_MMAP_THRESHOLD_": str(2**25),
        "MALLOC_TRIM_THRESHOLD_": str(2**30),
    }


def _rank_main(work: Callable[..., Result], plan: Any, folder: Location, elastic: bool) -> Result | None:
    collective = Collective()

    def go_on() -> Result:
        if collective.rank == 0:
            forget_reports(folder)  # of ranks that were lost: it goes on without them
        return work(plan, collective)

    try:
        result = collective.survive(go_on) if elastic else work(plan, collective)
        end_plainly()
        return result
    except Exception as error:
        write_report(folder, collective.rank, error)
        raise
    finally:
        collective.close()
