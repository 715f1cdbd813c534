"""How far two computations of the same numbers may differ: derived from rounding, not from one machine.

A sum of n terms in another order differs by about eps * sqrt(n) of their size (errors of both signs). What a
training step computes is sums over prompts, tokens and widths, and each step starts from the last one's
weights, so the errors of its steps add up.
"""

import torch

# AdamW divides a gradient by its own size, so a gradient that is small beside the largest, whose terms
# cancel, moves its weight as far as any other and has a larger relative error: by what it is smaller.
# Gradients up to a thousand times smaller than the largest are covered; a weight moves by at most the
# learning rate per step.
SPREAD = 1000
TINY = 12 * 40 * 32  # terms of a gradient of the tests' tiny models: completions x tokens x width


def rounding(terms: int, steps: int = 1, dtype: torch.dtype = torch.float32) -> float:
    """Relative difference of sums over `terms` numbers, after so many steps."""
    return steps * torch.finfo(dtype).eps * terms**0.5


def of_weights(learning_rate: float, terms: int, steps: int, dtype: torch.dtype = torch.float32) -> float:
    """Absolute difference of weights that AdamW trained, never more than they can have moved."""
    return learning_rate * min(steps, SPREAD * rounding(terms, steps, dtype))
