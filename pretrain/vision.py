"""Stage 1: the vision tower learns to see, before it has to speak.

Each patch says what lies on it: shape, colour, size and material of the object that covers most of it,
whether an object's centre is in it, and where that object is (offset on the image, distance, ground x and y).
Answering questions alone never taught a model of this size to look within an hour on a CPU; these dense
answers do in minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pretrain import corpus, loop
from spatialvlm.worlds.clevr.facts import HEIGHT, WIDTH, Scene
from spatialvlm.worlds.clevr.render import COLORS
from spatialvlm.worlds.clevr.scenes import MATERIALS, SHAPES, SIZES

# The rows of the dense heads, and the word that each says (None: nothing there).
GROUPS = {"shape": (None, *SHAPES), "color": tuple(COLORS), "size": SIZES, "material": MATERIALS}
WORDS = tuple(word for words in GROUPS.values() for word in words)
REGRESSIONS = ("column", "row", "distance", "x", "y")
ROWS = len(WORDS) + 1 + len(REGRESSIONS)  # + the centre flag


def things(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """What the heads should say of each object, wherever they are asked.

    Returns classes (objects, 5) int64, index within each group and 0 for the centre flag; and values
    (objects, 5) float32, the regressions, with column and row counted from the image's centre.
    """
    found = scene["objects"]
    classes = [
        (
            SHAPES.index(t["shape"]) + 1,
            tuple(COLORS).index(t["color"]),
            SIZES.index(t["size"]),
            MATERIALS.index(t["material"]),
            0,
        )
        for t in found
    ]
    pixels, places = (np.array([t[key] for t in found]) for key in ("pixel_coords", "3d_coords"))
    columns = [4 * (pixels[:, 0] / WIDTH - 0.5), 4 * (pixels[:, 1] / HEIGHT - 0.5)]
    columns += [(pixels[:, 2] - 11) / 2, places[:, 0] / 2, places[:, 1] / 2]
    return np.array(classes), np.stack(columns, -1).astype(np.float32)


def targets(scene: Scene, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the heads should say on each patch of one scene.

    Returns classes (rows * columns, 5) int64: index within each group (shape counts 0 = none) and the centre
    flag; and values (rows * columns, 5) float32, the regressions, scaled to about unit variance.
    """
    rows, columns = owners.shape
    attributes, known = (np.concatenate([part, np.zeros((1, 5), part.dtype)]) for part in things(scene))
    pixels = np.array([t["pixel_coords"] for t in scene["objects"]] + [[0, 0, 0]], float)
    column, row = pixels[:, 0] / WIDTH * columns, pixels[:, 1] / HEIGHT * rows
    centre = np.zeros((rows, columns), np.int64)
    inside = (row[:-1].astype(int).clip(0, rows - 1), column[:-1].astype(int).clip(0, columns - 1))
    centre[inside] = 1
    at_row, at_column = np.mgrid[:rows, :columns] + 0.5
    offsets = np.stack([column[owners] - at_column, row[owners] - at_row], -1)
    values = np.concatenate([offsets, known[owners, 2:]], -1)
    classes = np.concatenate([attributes[owners, :4], centre[..., None]], -1)
    return classes.reshape(-1, 5), values.reshape(-1, 5).astype(np.float32)


class Corpus:
    """Images and dense targets of a folder of shards, in memory."""

    def __init__(self, folder: Path, count: int) -> None:
        images, classes, values, self.scenes = [], [], [], []
        for shard_images, owners, scenes in corpus.read(folder, count):
            images.append(torch.from_numpy(shard_images))
            pairs = [targets(scene, owner) for scene, owner in zip(scenes, owners, strict=True)]
            classes.append(torch.from_numpy(np.stack([c for c, _ in pairs])).to(torch.int8))
            values.append(torch.from_numpy(np.stack([v for _, v in pairs])).half())
            self.scenes += scenes
        self.images, self.classes, self.values = torch.cat(images), torch.cat(classes), torch.cat(values)


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


def draw_boxes(images: torch.Tensor, scenes: list[Scene], generator: torch.Generator) -> torch.Tensor:
    """Outlines in red, blue and green around two or three objects of every third image, as CV-Bench draws
    them.
    """
    images = images.clone()
    scale = torch.tensor([images.shape[2] / WIDTH, images.shape[1] / HEIGHT]).repeat(2)
    for image, scene in zip(images[::3], scenes[::3], strict=True):
        chosen = torch.randperm(len(scene["objects"]), generator=generator)[:3].tolist()
        for k, color in zip(chosen, ((255, 0, 0), (0, 0, 255), (0, 255, 0)), strict=False):
            x0, y0, x1, y1 = (torch.tensor(scene["objects"][k]["bbox"]) * scale).long().tolist()
            x1, y1 = min(x1, image.shape[1] - 1), min(y1, image.shape[0] - 1)
            paint = torch.tensor(color, dtype=torch.uint8)
            image[y0 : y1 + 1, [x0, x1]] = paint
            image[[y0, y1], x0 : x1 + 1] = paint
    return images


def normalize(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) in [-1, 1], as SigLIP's image processor does."""
    return images.to(device).permute(0, 3, 1, 2).float().contiguous() / 127.5 - 1


def dense_loss(said: torch.Tensor, classes: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Cross-entropies and a smooth L1 over patches; `said` (B, N, ROWS). Attributes count on objects only."""
    said, classes = said.flatten(0, 1).float(), classes.flatten(0, 1).long()
    on = classes[:, 0] > 0
    nothing = said[:, 0] - said[:, 1 : len(GROUPS["shape"])].logsumexp(1)
    total, start = F.binary_cross_entropy_with_logits(nothing, 1 - on.float()), 0
    for k, (group, words) in enumerate(GROUPS.items()):
        logits = said[on, start : start + len(words)]
        hide = 1 if group == "shape" else 0  # what the shape is, given that there is one
        total = total + F.cross_entropy(logits[:, hide:], classes[on, k] - hide)
        start += len(words)
    total = total + F.binary_cross_entropy_with_logits(said[:, start], classes[:, 4].float())
    return total + F.smooth_l1_loss(said[on, start + 1 :], values.flatten(0, 1)[on].float())


@torch.no_grad()
def accuracy(said: torch.Tensor, classes: torch.Tensor, values: torch.Tensor) -> dict[str, float]:
    """Share of object patches read right for each group, centre flags' F1, and the error in distance."""
    said, classes = said.flatten(0, 1).float(), classes.flatten(0, 1).long()
    on, found, start = classes[:, 0] > 0, {}, 0
    for k, (group, words) in enumerate(GROUPS.items()):
        best = said[:, start : start + len(words)].argmax(1)
        found[group] = (best == classes[:, k])[on].float().mean().item()
        start += len(words)
    flag, gold = said[:, start] > 0, classes[:, 4] > 0
    found["centre_f1"] = (2 * (flag & gold).sum() / (flag.sum() + gold.sum()).clamp_min(1)).item()
    distance = start + 1 + REGRESSIONS.index("distance")
    error = (said[on, distance] - values.flatten(0, 1)[on, 2].float()).abs().mean() * 2
    return found | {"distance_error": error.item()}


class Seer(nn.Module):
    """The vision tower with dense heads on it, `rows` values a patch."""

    def __init__(self, tower: nn.Module, rows: int = ROWS) -> None:
        super().__init__()
        self.tower = tower
        self.heads = nn.Linear(tower.config.hidden_size, rows)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.heads(self.tower(pixels).last_hidden_state)


def in_bfloat16(seer: Seer, compiled: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """What `seer` says of pixels, under autocast; compiled where that is asked for and can be."""
    device = next(seer.parameters()).device
    run = torch.compile(seer, dynamic=False) if compiled and can_compile(device) else seer

    def said(pixels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return run(pixels)

    return said


def train(
    seer: Seer,
    train_set: Corpus,
    validation: Corpus,
    folder: Path,
    steps: int,
    batch_size: int,
    seed: int,
    compiled: bool = True,
) -> None:
    """Trains tower and heads for `steps` batches; resumes from `folder/vision.pt`."""
    device = next(seer.parameters()).device
    batch = loop.batches(len(train_set.images), batch_size, f"vision-{seed}")
    said = in_bfloat16(seer, compiled)

    def prepare(step: int) -> tuple[torch.Tensor, ...]:
        index = batch(step)
        generator = torch.Generator().manual_seed(loop.hash_seed(f"augment-{seed}-{step}"))
        images = draw_boxes(train_set.images[index], [train_set.scenes[i] for i in index], generator)
        pixels = augment(normalize(images, device), generator)
        return pixels, train_set.classes[index].to(device), train_set.values[index].to(device)

    prepared = loop.ahead(prepare)

    def loss(step: int) -> torch.Tensor:
        pixels, classes, values = prepared(step)
        return dense_loss(said(pixels), classes, values)

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        count = len(validation.images) // batch_size * batch_size
        rows = []
        for start in range(0, count, batch_size):
            part = slice(start, start + batch_size)
            answer = said(normalize(validation.images[part], device))
            rows.append(
                accuracy(answer, validation.classes[part].to(device), validation.values[part].to(device))
            )
        return loop.mean(rows)

    loop.fit("vision", folder, seer, loss, steps, 1.5e-3, evaluate, evaluations=10)


def fit_heads(seer: Seer, seen: torch.Tensor, data: Corpus, seed: int, steps: int = 600) -> None:
    """Dense heads for a tower that came without its own, from its features `seen` (N, patches, width)."""
    heads = seer.heads.cpu()
    optimizer = torch.optim.AdamW(heads.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, steps)
    batch = loop.batches(len(seen), 128, f"heads-{seed}")
    for step in range(steps):
        index = batch(step)
        said = heads(seen[index].float())
        optimizer.zero_grad()
        dense_loss(said, data.classes[index], data.values[index]).backward()
        optimizer.step()
        schedule.step()


def can_compile(device: torch.device) -> bool:
    """torch.compile needs a C++ compiler on a CPU; without one the same code runs eagerly, about half as
    fast.
    """
    import shutil

    return device.type == "cuda" or any(shutil.which(name) for name in ("g++", "clang++"))


@torch.no_grad()
def features(tower: nn.Module, images: torch.Tensor, batch_size: int = 256) -> torch.Tensor:
    """The tower's last hidden states for uint8 images (N, H, W, 3): (N, patches, width) in bfloat16 on the
    CPU.
    """
    device = next(tower.parameters()).device
    found = []
    for start in range(0, len(images), batch_size):
        with torch.autocast(device.type, torch.bfloat16):
            states = tower(normalize(images[start : start + batch_size], device)).last_hidden_state
        found.append(states.to("cpu", torch.bfloat16))
    return torch.cat(found)
