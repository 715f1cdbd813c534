"""What the processes of one launch do together: shard work, gather its results, and end together.

    accelerate launch --num_processes 2 --cpu script.py            # on CPU
    accelerate launch --multi_gpu --num_processes 2 script.py      # on as many GPUs, or machines

Every function here but `state` and `shards` waits until all processes have called it, so all must call the
same ones in the same order, whatever their shard of the work is. One process alone waits for nobody.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cache
from typing import TypeVar

import psutil
import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from spatialvlm import devices
from spatialvlm.errors import UserError

T = TypeVar("T")
PR_SET_PDEATHSIG = 1  # of Linux's prctl


def state() -> PartialState:
    """Number, count and device of this process: CUDA where it works and `accelerate launch` got no --cpu."""
    return PartialState(cpu=not devices.uses_cuda())


def start_processes() -> None:
    """Start the N processes of `accelerate launch --cpu --num_processes N`.

    accelerate 1.15 starts them by MPI alone; without MPI it starts one, without a warning. That one becomes
    torchrun here, which starts all N. Starts nothing under any other launch, or in one process. All
    processes of a launch end with their launcher, however it ends, and meet here: later they may come hours
    apart, and the limit for that is of minutes.
    """
    launched_by_others = {"WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"} & os.environ.keys()
    if launched_by_others:
        _end_with_parent()
        state()
    if not parse_flag_from_env("ACCELERATE_USE_CPU") or "MASTER_PORT" not in os.environ or launched_by_others:
        return
    words = [word for part in psutil.Process().parent().cmdline() for word in part.split("=", 1)]
    names = [i for i, word in enumerate(words) if word in ("--num_processes", "--num-processes")]
    if not names:
        print(
            "warning: accelerate launch --cpu started one process; give it --num_processes in the command",
            file=sys.stderr,
        )
        return
    _end_with_parent()
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", words[names[-1] + 1]]
    os.execv(sys.executable, [sys.executable, *torchrun, *sys.argv])


def _end_with_parent() -> None:
    """Have Linux send this process SIGTERM when its parent ends; what it becomes by exec keeps that.

    accelerate's launcher passes no signal on, so its processes would outlive it, and write on.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def leave() -> None:
    """Close the process group: a process that just ends may abort in a thread that still uses it."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def shards(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """This process's batches of up to `size` items: every N-th of all batches, N being the processes.

    All processes have as many; the last one may be empty.
    """
    processes = state()
    count, index = processes.num_processes, processes.process_index
    starts = range(0, len(items), size * count)
    return [items[start + index * size : start + (index + 1) * size] for start in starts]


def agree(work: Callable[[], list[T]]) -> list[T]:
    """What `work` returns on each process, in the order of the processes: the same list on all of them.

    A `UserError` on any of them ends all: the main process raises it, the others exit silently (code 2), so
    that a launch ends with one line and no process waits for one that is gone.
    """
    processes, result, error = state(), [], None
    group = _patient_group() if processes.num_processes > 1 else None
    try:
        result = work()
    except UserError as raised:
        error = raised
    parts = [(result, error and str(error))] * processes.num_processes
    if group is not None:
        torch.distributed.all_gather_object(parts, parts[0], group)
        parts[processes.process_index] = (result, error and str(error))  # itself, not the copy that was sent
    if messages := [message for _, message in parts if message]:
        if processes.is_main_process:
            raise error or UserError(messages[0])
        raise SystemExit(2)
    return [item for part, _ in parts for item in part]


@cache
def _patient_group() -> torch.distributed.ProcessGroup:
    """All processes, for results that one of them may take hours to have, as of a download.

    By gloo, whose connections end with a process: the others need no time limit to notice.
    """
    return torch.distributed.new_group(backend="gloo", timeout=timedelta(days=30))


def on_main(work: Callable[[], T]) -> T:
    """What `work` returns on the main process, which alone runs it (printing, writing).

    The others get a copy of it, pickled.
    """
    (result,) = agree(lambda: [work()] if state().is_main_process else [])
    return result
