"""One training loop for every stage: Muon and AdamW, warm-up and cosine, a curve on disk, resuming."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from spatialvlm.disk import whole

CHECKPOINT_SECONDS = 120
MUON = 2.0  # times AdamW's learning rate
WARMUP, WEIGHT_DECAY = 100, 0.05


def fit(
    name: str,
    folder: Path,
    modules: nn.Module,
    loss: Callable[[int], torch.Tensor],
    steps: int,
    learning_rate: float,
    evaluate: Callable[[], dict[str, float]],
    evaluations: int = 5,
) -> None:
    """Minimises `loss(step)` over the trainable parameters of `modules`.

    `loss` must depend on nothing but the step (and the parameters), so that a resumed run sees the same
    batches. Appends one row an evaluation to `folder/curve.jsonl` and keeps `folder/<name>.pt`, from which it
    resumes.
    """
    parameters = [p for p in modules.parameters() if p.requires_grad]
    optimizers = _optimizers(modules, learning_rate)

    def rate(step: int) -> float:
        return min((step + 1) / WARMUP, 0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01)

    schedulers = [torch.optim.lr_scheduler.LambdaLR(optimizer, rate) for optimizer in optimizers]
    following = [*optimizers, *schedulers]
    path, start, seconds = folder / f"{name}.pt", 0, 0.0
    if path.exists():
        state = torch.load(path, weights_only=True, map_location="cpu")
        modules.load_state_dict(state["modules"])
        if state["steps"] == steps:
            for each, kept in zip(following, state["following"], strict=True):
                each.load_state_dict(kept)
        start, seconds = min(state["step"], steps), state["seconds"]

    def save(step: int) -> None:
        state = {"modules": modules.state_dict(), "step": step, "steps": steps, "seconds": seconds}
        state["following"] = [each.state_dict() for each in following]
        with whole(path) as aside:
            torch.save(state, aside)

    every = max(1, steps // evaluations)
    running, last, saved = float("nan"), time.perf_counter(), time.perf_counter()
    bar = tqdm(range(start, steps), initial=start, total=steps, desc=name, mininterval=5)
    for step in bar:
        value = loss(step)
        modules.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for each in following:
            each.step()
        value = value.item()
        running = value if math.isnan(running) else 0.98 * running + 0.02 * value
        now = time.perf_counter()
        seconds, last = seconds + now - last, now
        bar.set_postfix(loss=f"{running:.3f}", refresh=False)
        if (step + 1) % every == 0 or step + 1 == steps:
            row = {"stage": name, "step": step + 1, "seconds": round(seconds, 1), "loss": round(running, 4)}
            row |= {k: round(v, 4) for k, v in evaluate().items()}
            with (folder / "curve.jsonl").open("a") as out:
                out.write(json.dumps(row) + "\n")
            bar.write(" ".join(f"{k}={v}" for k, v in row.items()))
            last = time.perf_counter()
        if now - saved > CHECKPOINT_SECONDS or step + 1 == steps:
            save(step + 1)
            saved = time.perf_counter()


def _optimizers(modules: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al., 2024) for the layers' matrices, AdamW for all else."""
    named = [(name, p) for name, p in modules.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if p.ndim == 2 and ".layers." in name]
    others = [p for name, p in named if not (p.ndim == 2 and ".layers." in name)]
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [
        torch.optim.Muon(matrices, lr=MUON * rate, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True),
    ]


def batches(count: int, size: int, seed: str) -> Callable[[int], torch.Tensor]:
    """Which items belong to a step: reshuffled each epoch, the same for the same step, whenever asked.

    Of fewer items than `size` a batch has all.
    """
    size = min(size, count)
    per_epoch = count // size
    cached: dict[int, torch.Tensor] = {}

    def batch(step: int) -> torch.Tensor:
        epoch, position = divmod(step, per_epoch)
        if epoch not in cached:
            cached.clear()
            generator = torch.Generator().manual_seed(hash_seed(f"{seed}-{epoch}"))
            cached[epoch] = torch.randperm(count, generator=generator)
        return cached[epoch][position * size : (position + 1) * size]

    return batch


def ahead(prepare: Callable[[int], Any]) -> Callable[[int], Any]:
    """`prepare(step)`, with the next step's made in a second thread while this one's is used."""
    pool, waiting = ThreadPoolExecutor(1), {}

    def get(step: int) -> Any:
        found = waiting.pop(step, None) or pool.submit(prepare, step)
        waiting[step + 1] = pool.submit(prepare, step + 1)
        return found.result()

    return get


def hash_seed(text: str) -> int:
    """A seed from a text, the same in every process (unlike `hash`)."""
    import hashlib

    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
