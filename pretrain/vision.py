"""Stage 1: the vision tower learns to see before it has to speak: each patch says what lies on it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from pretrain import loop, targets
from pretrain.worlds import Corpus, Facts
from spatialvlm.disk import whole
from spatialvlm.worlds.clevr.facts import HEIGHT, WIDTH


def augment(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Real images differ in light, tint, contrast, sharpness and noise; (B, 3, H, W) in [-1, 1]."""
    count = len(pixels)

    def uniform(low: float, high: float, channels: int = 1) -> torch.Tensor:
        drawn = torch.rand((count, channels, 1, 1), generator=generator)
        return (low + (high - low) * drawn).to(pixels)

    gain = uniform(0.8, 1.25) * uniform(0.93, 1.07, 3)
    contrast = uniform(0.85, 1.15) * gain
    pixels = pixels * contrast + (gain - 1)
    soft, rough = torch.randperm(count, generator=generator)[: 2 * (count // 3)].chunk(2)  # a third each
    if len(soft):
        pixels[soft] = F.avg_pool2d(pixels[soft], 3, 1, 1, count_include_pad=False)
        noise = 0.05 * torch.rand((len(rough), 1, 1, 1), generator=generator)
        pixels[rough] += (noise * torch.randn(pixels[rough].shape, generator=generator)).to(pixels)
    return pixels.clamp_(-1, 1)


def draw_boxes(images: torch.Tensor, facts: Sequence[Facts], generator: torch.Generator) -> torch.Tensor:
    """Outlines in red, blue and green around two or three things of every third scene, as CV-Bench draws
    them; nodes have none.
    """
    images = images.clone()
    scale = torch.tensor([images.shape[2] / WIDTH, images.shape[1] / HEIGHT]).repeat(2)
    for image, scene in zip(images[::3], facts[::3], strict=True):
        things = scene.get("objects", ())
        chosen = torch.randperm(len(things), generator=generator)[:3].tolist()
        for k, color in zip(chosen, ((255, 0, 0), (0, 0, 255), (0, 255, 0)), strict=False):
            x0, y0, x1, y1 = (torch.tensor(things[k]["bbox"]) * scale).long().tolist()
            x1, y1 = min(x1, image.shape[1] - 1), min(y1, image.shape[0] - 1)
            paint = torch.tensor(color, dtype=torch.uint8)
            image[y0 : y1 + 1, [x0, x1]] = paint
            image[[y0, y1], x0 : x1 + 1] = paint
    return images


def normalize(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) in [-1, 1], as SigLIP's image processor does."""
    return images.to(device).permute(0, 3, 1, 2).float().contiguous() / 127.5 - 1


class Seer(nn.Module):
    """The vision tower with dense heads on it."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower
        self.heads = nn.Linear(tower.config.hidden_size, targets.ROWS)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.heads(self.tower(pixels).last_hidden_state)


def _rows(corpus: Corpus, index: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Classes, values, centre flags and floor of every patch of some items, a row each."""
    owners, classes = (part[index].long() for part in (corpus.owners, corpus.classes))
    classes, centres, values = targets.of_patches(owners, classes, corpus.values[index].float())
    return classes.flatten(0, 1), values.flatten(0, 1), centres.flatten(), corpus.floor[index].flatten()


def train(
    seer: Seer,
    corpora: Sequence[Corpus],
    validation: Sequence[Corpus],
    folder: Path,
    steps: int,
    sizes: Sequence[int],
    seed: int,
    compiled: bool = True,
) -> None:
    """Trains tower and heads for `steps` batches, of so many items of each corpus; resumes from
    `folder/vision.pt`.
    """
    device = next(seer.parameters()).device
    batches = [
        loop.batches(len(corpus), size, f"vision-{number}-{seed}")
        for number, (corpus, size) in enumerate(zip(corpora, sizes, strict=True))
    ]
    run = torch.compile(seer, dynamic=False) if compiled and can_compile(device) else seer

    def said(pixels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return run(pixels).flatten(0, 1)

    def prepare(step: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(loop.hash_seed(f"augment-{seed}-{step}"))
        images, rows = [], []
        for corpus, batch in zip(corpora, batches, strict=True):
            index = batch(step)
            images.append(draw_boxes(corpus.image[index], [corpus.facts[i] for i in index], generator))
            rows.append(_rows(corpus, index))
        pixels = augment(normalize(torch.cat(images), device), generator)
        return [pixels, *(torch.cat(part).to(device) for part in zip(*rows, strict=True))]

    prepared = loop.ahead(prepare)

    def loss(step: int) -> torch.Tensor:
        pixels, *gold = prepared(step)
        return targets.loss(said(pixels), *gold)

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        answers, gold = [], []
        for corpus in validation:
            size = min(sum(sizes), len(corpus))
            for start in range(0, len(corpus) // size * size, size):
                index = torch.arange(start, start + size)
                answers.append(said(normalize(corpus.image[index], device)).float().cpu())
                gold.append(_rows(corpus, index))
        classes, values, centres, _ = (torch.cat(part) for part in zip(*gold, strict=True))
        return targets.accuracy(torch.cat(answers), classes, values, centres)

    loop.fit("vision", folder, seer, loss, steps, 1.5e-3, evaluate, evaluations=8)


def can_compile(device: torch.device) -> bool:
    """torch.compile needs a C++ compiler on a CPU; without one the same code runs eagerly, about half as
    fast.
    """
    return device.type == "cuda" or any(shutil.which(name) for name in ("g++", "clang++"))


@torch.no_grad()
def features(tower: nn.Module, images: torch.Tensor, path: Path, batch_size: int = 256) -> torch.Tensor:
    """The tower's last hidden states for uint8 images (N, H, W, 3): (N, patches, width) in bfloat16 on the
    CPU, kept in `path`.
    """
    if path.exists():
        return torch.load(path, weights_only=True)
    device = next(tower.parameters()).device
    found = []
    for start in range(0, len(images), batch_size):
        with torch.autocast(device.type, torch.bfloat16):
            states = tower(normalize(images[start : start + batch_size], device)).last_hidden_state
        found.append(states.to("cpu", torch.bfloat16))
    with whole(path) as aside:
        torch.save(torch.cat(found), aside)
    return torch.cat(found)
