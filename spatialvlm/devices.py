"""What the devices of this machine can do."""

from __future__ import annotations

import torch


def takes_four_bits(device: torch.device) -> bool:
    """Whether bitsandbytes trains on 4-bit weights there.

    Its CPU kernels do not: after a pass without gradients they pack the weights anew, round to bfloat16 and
    drop the gradient from then on.
    """
    return device.type == "cuda"
