"""Which device computes: a GPU that this build of torch runs on, or the CPU, and why.

torch itself says little: with a driver too old for its build it finds no GPU, and on a card that its build
has no kernels for it fails at the first product.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache

import torch
from accelerate.utils import parse_flag_from_env

from spatialvlm.errors import UserError, first_line

NEEDED_DRIVERS = {11: 450, 12: 525, 13: 580}  # the oldest driver's first number, by CUDA's
CU126_VERSIONS = (2, 6), (2, 14)  # the first and the last torch that is built for CUDA 12.6
PINNED = "2.13.0"
CU130 = "the same built for CUDA 13.0 (cu130: cards from T4 on, driver 580 or newer)"
OLDEST = (5, 0)  # the oldest card with kernels in the builds for CUDA 12.6
INSTEAD = 'see README, "Installation"; or run the small model on the CPU with --profile embedded'
HIDDEN = ("", "-1", "NoDevFiles")  # values of CUDA_VISIBLE_DEVICES by which a user, or Slurm, hides all GPUs


@dataclass(frozen=True)
class Problem:
    """Why a GPU that is here cannot be used, and what helps, each a part of one line."""

    reason: str
    remedy: str


def keeps_off_gpus() -> bool:
    """Whether the user wants the CPU: `accelerate launch --cpu`, or no GPU visible."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in HIDDEN
    return hidden or parse_flag_from_env("ACCELERATE_USE_CPU")


def uses_cuda() -> bool:
    """Whether this process computes on a GPU."""
    return not keeps_off_gpus() and torch.cuda.is_available() and problem() is None


def require_usable() -> None:
    """Raise UserError where a GPU is here that cannot be used."""
    if found := problem():
        raise UserError(f"{found.reason}; {found.remedy}; {INSTEAD}")


def describe(device: torch.device, dtype: torch.dtype) -> str:
    """The device with its memory and the weights' dtype, for the first line of a run."""
    name = str(dtype).removeprefix("torch.")
    if device.type != "cuda":
        found = problem()
        return f"CPU, {name}" + (f" ({found.reason})" if found else "")
    free, total = (size / 2**30 for size in torch.cuda.mem_get_info(device))
    memory = f"{free:.1f} of {total:.1f} GiB free"
    if free < 0.9 * total:
        memory += " (the rest is in use: nvidia-smi lists by what)"
    if dtype == torch.float16 and not has_bfloat16():
        name += " (no native bfloat16)"
    return f"{torch.cuda.get_device_name(device)}, {memory}, {name}"


def has_bfloat16() -> bool:
    """Whether the GPU computes in bfloat16 natively, which is from compute capability 8.0 on."""
    return torch.cuda.is_bf16_supported(including_emulation=False)


def takes_four_bits(device: torch.device) -> bool:
    """Whether bitsandbytes trains on 4-bit weights there.

    Its CPU kernels do not: after a pass without gradients they pack the weights, round to bfloat16 and drop
    the gradient from then on.
    """
    return device.type == "cuda"


def problem() -> Problem | None:
    """What keeps this build of torch from a GPU that is here and not hidden; None where nothing does."""
    if keeps_off_gpus():
        return None
    if torch.cuda.is_available():
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        return next(
            filter(None, map(_without_kernels, range(min(processes, torch.cuda.device_count())))), None
        )
    gpu = nvidia_gpu()
    if gpu is None or torch.version.hip:
        return None
    name, driver = gpu
    if torch.version.cuda is None:
        either = f" or {CU130}" if driver >= NEEDED_DRIVERS[13] else ""
        return Problem(
            f"{name} is here, and torch {_version()} is built without CUDA", f"install {_cu126()}{either}"
        )
    needed = NEEDED_DRIVERS.get(int(torch.version.cuda.partition(".")[0]), 0)
    if 0 < driver < needed:
        build = f"{_cu126()}, or " if needed > NEEDED_DRIVERS[12] else ""
        return Problem(
            f"{name} has driver {driver}, and {_build()} needs {needed} or newer",
            f"install {build}a driver of {needed} or newer",
        )
    try:
        torch.cuda.init()
        error = "without saying why"
    except (RuntimeError, AssertionError) as raised:
        error = first_line(raised)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return Problem(
        f"{name} is here, and CUDA does not start ({error})",
        "compare with `nvidia-smi`" + (f" and CUDA_VISIBLE_DEVICES={visible}" if visible else ""),
    )


# ---- kernels


def _without_kernels(index: int) -> Problem | None:
    """The card's problem where the build has no kernels for it; ROCm's builds are not looked at."""
    architectures = torch.cuda.get_arch_list()
    capability = torch.cuda.get_device_capability(index)
    if torch.version.cuda is None or not architectures or _runs(capability, architectures):
        return None
    name = f"{torch.cuda.get_device_name(index)} (sm_{capability[0]}{capability[1]})"
    remedy = f"install {CU130 if capability >= (10, 0) else _cu126()}"
    if capability < OLDEST:
        remedy = "use a newer card"
    return Problem(f"{_build()} has no kernels for {name}", remedy)


def _runs(capability: tuple[int, int], architectures: list[str]) -> bool:
    """Whether kernels for one of the architectures run on a card.

    `sm_XY` runs on cards X.Y and the newer ones of X; `compute_XY`, translated there, on all newer ones; a
    trailing `a` on that card alone.
    """
    for architecture in architectures:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", architecture)
        if not found:
            continue
        kind, built = found[1], (int(found[2]), int(found[3]))
        alone, family = found[4] == "a", kind == "sm" or found[4] == "f"
        if capability == built or (
            not alone and capability > built and (not family or capability[0] == built[0])
        ):
            return True
    return False


# ---- builds and drivers


def _version() -> str:
    return torch.__version__.partition("+")[0]


def _build() -> str:
    return f"torch {_version()} built for CUDA {torch.version.cuda}"


def _cu126() -> str:
    """This version of torch, or the pinned one, built for CUDA 12.6."""
    version, (first, last) = _version(), CU126_VERSIONS
    if not first <= tuple(map(int, version.split(".")[:2])) <= last:
        version = PINNED
    return f"torch {version} built for CUDA 12.6 (cu126: cards up to H100, driver 525 or newer)"


@cache
def nvidia_gpu() -> tuple[str, int] | None:
    """(name, first number of its driver, 0 if unknown) of the first NVIDIA GPU that nvidia-smi sees."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    query = [command, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode in (6, 9):  # no device that this user may open; no driver that runs
        return None
    name, _, driver = (done.stdout.strip().splitlines() or [""])[0].rpartition(",")
    number = re.match(r"\s*(\d+)\.", driver)
    return name.strip() or "an NVIDIA GPU", int(number[1]) if number else 0
