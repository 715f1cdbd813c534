"""Machines that are not here: what torch and nvidia-smi say on them, in place of what they say here."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch

# Architectures of torch's builds, as torch.cuda.get_arch_list() has them.
CUDA_12_6 = ("12.6", "sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90")
CUDA_13_0 = ("13.0", "sm_75 sm_80 sm_86 sm_90 sm_100 sm_120 compute_120")
CPU_BUILD = (None, "")
GIB = 2**30


@dataclass(frozen=True)
class Machine:
    """One GPU or none; called, it takes this machine's place for good (for processes of their own).

    Args:
        build: of torch: its CUDA and its architectures.
        card: name, compute capability, GiB of memory; None without a GPU.
        driver: as nvidia-smi prints it; None without nvidia-smi.
        starts: whether CUDA does.
        free: fraction of the memory.
    """

    build: tuple[str | None, str]
    card: tuple[str, tuple[int, int], float] | None = None
    driver: str | None = None
    starts: bool = True
    free: float = 0.98
    version: str = "2.13.0"

    def __call__(self) -> None:
        for each in self.patches():
            each.start()

    def patches(self):
        """Replacements of torch's own answers, for a `with` or for good."""
        name, capability, memory = self.card or ("", (0, 0), 0)
        count = int(self.card is not None and self.starts)
        cuda, architectures = self.build
        sizes = int(self.free * memory * GIB), int(memory * GIB)
        answers = {
            "is_available": bool(count),
            "device_count": count,
            "get_arch_list": architectures.split(),
            "get_device_capability": capability,
            "get_device_name": name,
            "mem_get_info": sizes,
            "is_bf16_supported": capability >= (8, 0),
        }
        made = [
            patch.object(torch.cuda, each, lambda *_, _answer=answer, **__: _answer)
            for each, answer in answers.items()
        ]
        versions = [patch.object(torch.version, "cuda", cuda), patch.object(torch.version, "hip", None)]
        return [*made, *versions, patch.object(torch, "__version__", f"{self.version}+{cuda or 'cpu'}")]

    def path(self, folder: Path) -> str:
        """PATH with this machine's nvidia-smi, or without one."""
        if self.driver is not None:
            command = folder / "nvidia-smi"
            command.write_text(f"#!{sys.executable}\nprint('{self.card[0]}, {self.driver}')\n")
            command.chmod(0o755)
        return os.pathsep.join([str(folder), os.environ["PATH"]])


T4, V100, H100 = (
    ("Tesla T4", (7, 5), 14.6),
    ("Tesla V100-SXM2-16GB", (7, 0), 15.8),
    ("NVIDIA H100 80GB HBM3", (9, 0), 79.2),
)
