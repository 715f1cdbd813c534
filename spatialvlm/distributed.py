"""What the processes of one launch do together: share work out, know the same after it, and end together.

    accelerate launch --num_processes 2 --cpu script.py            # on CPU
    accelerate launch --multi_gpu --num_processes 2 script.py      # on as many GPUs, or machines

Every function here but `state` and `deal` waits until all processes have called it, so all must call the same
ones in the same order, whatever their share of the work is. One process alone waits for nobody.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import psutil
import torch
from accelerate import PartialState
from accelerate.utils import gather_object, parse_flag_from_env

from spatialvlm.errors import UserError

T = TypeVar("T")


def state() -> PartialState:
    """Number, count and device of this process: CUDA where it is and `accelerate launch` got no --cpu."""
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available())


def start_the_others() -> None:
    """Starts the processes that `accelerate launch --cpu --num_processes N` was asked for.

    accelerate 1.15 starts them by MPI alone; without MPI it starts one, and says nothing. That one becomes
    torchrun here, which starts all N. Does nothing under any other launch, or in one process.
    """
    launched_by_others = {"WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"} & os.environ.keys()
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
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", words[names[-1] + 1]]
    os.execv(sys.executable, [sys.executable, *torchrun, *sys.argv])


def part() -> None:
    """Takes leave of the others: a process that just ends may abort in a thread that still talks to them."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def deal(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """This process's batches of up to `size` items, one a round, dealt out in turn: the first process has the
    first, the second the next. All have as many rounds; in the last one a batch may be empty.
    """
    processes = state()
    count, index = processes.num_processes, processes.process_index
    starts = range(0, len(items), size * count)
    return [items[start + index * size : start + (index + 1) * size] for start in starts]


def agree(work: Callable[[], list[T]]) -> list[T]:
    """What `work` returns on each process, the processes in order: the same list on all of them.

    A `UserError` on any of them ends all: the main process raises it, the others leave without a word (exit
    code 2), so that a launch ends with one line and nobody waits for one who is gone.
    """
    processes, found, error = state(), [], None
    try:
        found = work()
    except UserError as raised:
        error = raised
    parts = gather_object([(found, error and str(error))])
    if messages := [message for _, message in parts if message]:
        if processes.is_main_process:
            raise error or UserError(messages[0])
        raise SystemExit(2)
    return [item for part, _ in parts for item in part]


def on_main(work: Callable[[], T]) -> T:
    """What `work` returns on the main process, which alone does it (printing, writing). It gets pickled."""
    (found,) = agree(lambda: [work()] if state().is_main_process else [])
    return found
