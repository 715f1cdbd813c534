"""Where PaliGemma attends while it answers, and whether it attends to what it counts.

python -m spatialvlm.reporting.attention                                   # 200 questions, embedded model
python -m spatialvlm.reporting.attention --method rollout \
    --adapter results/pali_sat_grpo/v2-embedded-seed0/adapter
python -m spatialvlm.reporting.attention --profile paper --layers 12 13 14 --limit 1000    # GPU

The answer is predicted at the last position of the prompt, so that position's attention is taken: the mean of
all heads over the layers selected, or rolled out through all layers (Abnar and Zuidema 2020, arXiv
2005.00928). The image's attention lies on a grid of patches. In rendered scenes the pixels of every object
are known, so the fraction on the counted objects is exact. Beside it stand the fraction of the image that
they cover, which undirected attention would give, and both as fractions of all objects, which attention to
any object would give. One caveat: the vision tower mixes patches before the language model attends to them.

Prints the fractions for correct, nearly correct and incorrect answers; writes attention.json, attention.jsonl
(one row per question) and some images.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from spatialvlm import cli, disk
from spatialvlm.errors import UserError, require_at_least
from spatialvlm.evaluation import evaluate, metrics
from spatialvlm.evaluation.benchmark import STRICT_FREE
from spatialvlm.evaluation.metrics import Estimate
from spatialvlm.evaluation.tables import percent, text_table
from spatialvlm.example import Example
from spatialvlm.models import loading, paligemma, rollout
from spatialvlm.models.inputs import Batch
from spatialvlm.run_folder import Run
from spatialvlm.tasks.clevr.data import with_vocabulary
from spatialvlm.worlds.clevr import scenes, series
from spatialvlm.worlds.clevr.facts import VALUES, Scene, describe, matches
from spatialvlm.worlds.clevr.render import visibility

OUTCOMES = ("right", "off by one", "off by more", "unread")
FINE = 14  # pixels per side of a patch in the masks
RESAMPLES = 2000
_COUNT = re.compile(r"How many (.+) are there\?")


@dataclass
class Args(loading.ModelArgs):
    limit: int = field(default=200, metadata={"help": "counting questions"})
    layers: list[int] = field(
        default_factory=list,
        metadata={"help": "language layers to average over, from 0; all by default"},
    )
    method: Literal["mean", "rollout"] = field(
        default="mean", metadata={"help": "mean over layers, or attention rollout through all of them"}
    )
    batch_size: int = field(default=16, metadata={"help": "questions per batch; changes no figure"})
    pictures: int = field(default=3, metadata={"help": "example images per outcome"})
    output_dir: str | None = field(
        default=None, metadata={"help": "run folder; results/attention/<profile>-<method>-seed<seed>"}
    )

    def __post_init__(self) -> None:
        require_at_least(1, limit=self.limit, batch_size=self.batch_size)
        require_at_least(0, pictures=self.pictures)
        if self.layers and self.method == "rollout":
            raise UserError("--method rollout goes through all layers; leave out --layers")


# ---- attention


@torch.no_grad()
def answer_attention(model, batch: Batch, layers: Sequence[int] = (), method: str = "mean") -> Tensor:
    """Return the last position's attention to each position of the prompt; (B, P), rows sum to 1.

    Args:
        model: a PaliGemma with eager attention (others return no weights), with or without adapter.
        batch: prompts with one image each.
        layers: to average over; all if empty. Ignored by `rollout`.
        method: `mean` over heads and layers; or `rollout`, the product of all layers' head means, each half
            identity for the residual stream.

    Raises:
        UserError: a layer that the model does not have, or a model that is no PaliGemma.
    """
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not isinstance(core, paligemma.CLASSES):
        raise UserError("attention over a grid of patches is for PaliGemma; give one with --model")
    count = core.config.get_text_config().num_hidden_layers
    if wrong := [layer for layer in layers if not 0 <= layer < count]:
        raise UserError(f"--layers {wrong[0]}: the model has layers 0 to {count - 1}")
    weights = core(
        input_ids=batch.input_ids,
        pixel_values=batch.pixel_values.to(core.model.vision_tower.dtype),
        token_type_ids=torch.zeros_like(batch.input_ids),  # 0: a prompt, bidirectional
        attention_mask=batch.attention_mask,
        position_ids=batch.attention_mask.cumsum(1).clamp(min=1),
        logits_to_keep=1,
        use_cache=False,
        output_attentions=True,
    ).attentions
    means = [layer.float().mean(1) for layer in weights]  # (B, P, P) each
    if method == "mean":
        return torch.stack([means[layer][:, -1] for layer in layers or range(count)]).mean(0)
    rolled = means[-1][:, -1:] * 0  # (B, 1, P): the last row of the product, from the last layer down
    rolled[:, 0, -1] = 1
    for layer in reversed(means):
        rolled = 0.5 * rolled @ layer + 0.5 * rolled
    return rolled[:, 0]


def on_image(weights: Tensor, batch: Batch, image_token: int) -> tuple[Tensor, Tensor]:
    """Return the attention over the image (B, side, side), summing to 1, and the image's fraction (B,)."""
    flat = weights[batch.input_ids == image_token].view(len(weights), -1)
    side = math.isqrt(flat.shape[1])
    fraction = flat.sum(1)
    return (flat / fraction[:, None]).view(-1, side, side), fraction


# ---- the counted objects


def counted(scene: Scene, question: str, answer: str) -> list[int]:
    """Return the objects of a scene that "How many small red things are there?" counts.

    Raises:
        ValueError: a question of another form, or one whose answer is another number.
    """
    match = _COUNT.fullmatch(question)
    words = match[1].split() if match else []
    conditions = {
        name: value for name, values in VALUES.items() for value in values if {value, f"{value}s"} & {*words}
    }
    if not match or describe(conditions, plural=True) != match[1]:
        raise ValueError(f"{question!r} does not ask how many things there are")
    objects = matches(scene, conditions)
    if str(len(objects)) != answer:
        raise ValueError(f"{question!r} counts {len(objects)}, not {answer}")
    return objects


def mask(scene: Scene, objects: Sequence[int], side: int) -> np.ndarray:
    """Return the objects' pixels in a frame scaled to a square; (side * FINE, side * FINE) bool."""
    _, _, seen = visibility(scene, scenes.view(scene), side * FINE, side * FINE)
    return np.isin(seen, list(objects))


def coverage(covered: np.ndarray) -> np.ndarray:
    """Return the fraction of each patch that a mask covers; (side, side)."""
    side = len(covered) // FINE
    return covered.reshape(side, FINE, side, FINE).mean((1, 3))


# ---- the study


@dataclass(frozen=True)
class Observation:
    """One question: its row for attention.jsonl, the attention grid, and the mask of the counted objects."""

    row: dict
    grid: np.ndarray  # (side, side)
    covered: np.ndarray  # (side * FINE, side * FINE)


def outcome(answer: float | None, gold: int) -> str:
    if answer is None:
        return "unread"
    return OUTCOMES[min(int(math.ceil(abs(answer - gold))), 2)]


def observe(model, processor, examples: Sequence[Example], args: Args) -> list[Observation]:
    """Answer all questions, and measure the attention of each answer."""
    settings = {"batch_size": args.batch_size, "rule": STRICT_FREE, "seed": args.seed}
    records = evaluate.predict(model, processor, examples, progress="answers", **settings)
    observations = []
    for start in tqdm(range(0, len(examples), args.batch_size), desc="attention"):
        part = [examples[number] for number in range(start, min(start + args.batch_size, len(examples)))]
        prompts, images = [example.prompt for example in part], [example.images for example in part]
        batch = rollout.encode(processor, prompts, images, model.device)
        weights = answer_attention(model, batch, args.layers, args.method)
        grids, fractions = on_image(weights, batch, model.config.image_token_id)
        for example, record, grid, fraction in zip(
            part, records[start:], grids.cpu().numpy(), fractions.tolist(), strict=False
        ):
            scene = scenes.make(*example.meta["scene"])
            covered = mask(scene, counted(scene, example.question, example.answer), len(grid))
            target = coverage(covered)
            objects = coverage(mask(scene, range(len(scene["objects"])), len(grid)))
            row = {name: record[name] for name in ("id", "prompt", "gold", "parsed")} | {
                "outcome": outcome(record["parsed"], record["gold"]),
                "attention": float((grid * target).sum()),
                "area": float(target.mean()),
                "attention_of_objects": float((grid * target).sum() / (grid * objects).sum()),
                "area_of_objects": float(target.sum() / objects.sum()),
                "image": fraction,
            }
            observations.append(Observation(row, grid, covered))
    return observations


def study(rows: Sequence[dict]) -> dict:
    """Return mean fractions by outcome, for questions whose count is not 0.

    `of objects` is relative to what falls on any object, since a model may prefer objects to the ground
    without telling them apart. Intervals are 95 % bootstraps over questions. `right - wrong` is the
    difference of attention - area between correct and incorrect answers to questions of the same count,
    counts weighted by their questions.
    """
    counting = [row for row in rows if row["gold"] > 0]
    parts = {"all": counting} | {
        name: [row for row in counting if row["outcome"] == name] for name in OUTCOMES
    }
    parts["wrong"] = [row for row in counting if row["outcome"] != "right"]
    between = right_minus_wrong(counting)
    return {
        "questions": len(rows),
        "left_out_with_count_0": len(rows) - len(counting),
        "outcomes": {name: _fractions(part) for name, part in parts.items() if part},
        "right - wrong": between.as_dict() if between else None,
    }


def _fractions(rows: Sequence[dict]) -> dict:
    """Mean fractions, and the paired differences attention - area."""
    zeros = [0.0] * len(rows)
    estimates = {}
    for prefix, suffix in (("", ""), ("of objects: ", "_of_objects")):
        attention, area = ([row[f"{name}{suffix}"] for row in rows] for name in ("attention", "area"))
        estimates |= {
            f"{prefix}attention": metrics.paired_mean_difference(zeros, attention),
            f"{prefix}area": metrics.paired_mean_difference(zeros, area),
            f"{prefix}attention - area": metrics.paired_mean_difference(area, attention),
        }
    estimates["image"] = metrics.paired_mean_difference(zeros, [row["image"] for row in rows])
    return {"n": len(rows)} | {name: estimate.as_dict() for name, estimate in estimates.items()}


def right_minus_wrong(rows: Sequence[dict]) -> Estimate | None:
    """Return the difference as in `study`, with a percentile bootstrap within counts and outcomes.

    None if no count has at least two correct and two incorrect answers.
    """
    cells = []
    for count in sorted({row["gold"] for row in rows}):
        both: tuple[list[float], list[float]] = ([], [])
        for row in rows:
            if row["gold"] == count:
                both[row["outcome"] == "right"].append(row["attention"] - row["area"])
        if min(map(len, both)) >= 2:
            cells.append(tuple(np.array(part) for part in both))
    if not cells:
        return None
    weights = np.array([len(wrong) + len(right) for wrong, right in cells], dtype=float)
    rng = np.random.default_rng(0)

    def mean_of(part: np.ndarray) -> np.ndarray:  # (RESAMPLES,)
        return part[rng.integers(0, len(part), (RESAMPLES, len(part)))].mean(1)

    samples = (
        np.stack([mean_of(right) - mean_of(wrong) for wrong, right in cells], 1) @ weights / weights.sum()
    )
    value = np.array([right.mean() - wrong.mean() for wrong, right in cells]) @ weights / weights.sum()
    low, high = np.quantile(samples, [0.025, 0.975])
    return Estimate(float(value), (float(low), float(high)), int(weights.sum()))


def table(result: dict) -> str:
    """Format the study in percent."""
    columns = ("attention", "area", "attention - area")
    rows = [("counted objects", "n", *columns)]
    for prefix in ("", "of objects: "):
        rows += [("of what falls on any object",)] if prefix else []
        for name, part in result["outcomes"].items():
            cells = [percent(Estimate.of(part[prefix + column]), "-" in column) for column in columns]
            rows.append((name, str(part["n"]), *cells))
    lines = [text_table(rows, "<><")]
    if result["right - wrong"]:
        difference = percent(Estimate.of(result["right - wrong"]), True)
        lines.append(f"right - wrong, at the same count: {difference} (n = {result['right - wrong']['n']})")
    lines.append(
        "percent of the attention on the image, and of its area; 95 % intervals; "
        f"{result['left_out_with_count_0']} of {result['questions']} questions count nothing and are left out"
    )
    return "\n".join(line.rstrip() for line in lines)


def overlay(image: Image.Image, grid: np.ndarray, covered: np.ndarray, scale: int = 3) -> Image.Image:
    """Return the image beside its attention (bright = much), with the counted objects outlined."""
    size = image.width * scale, image.height * scale
    pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS), dtype=float) / 255
    shown = Image.fromarray((255 * grid / grid.max()).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    heat = colormaps["inferno"](np.asarray(shown))[..., :3]
    mixed = 0.35 * pixels.mean(2, keepdims=True) + 0.65 * heat
    inside = np.asarray(Image.fromarray(covered).resize(size, Image.Resampling.NEAREST))
    edge = np.zeros_like(inside)
    edge[1:-1, 1:-1] = inside[1:-1, 1:-1] & ~(
        inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    )
    mixed[edge] = (0.4, 1.0, 1.0)
    return Image.fromarray((255 * np.concatenate([pixels, mixed], 1)).astype(np.uint8))


def main(args: Args) -> dict:
    profile, _ = loading.resolve_profile(args)
    model, processor = loading.load(args)
    folder = Path(args.output_dir or f"results/attention/{profile}-{args.method}-seed{args.seed}")
    run = Run(folder, asdict(args) | {"weights": model.config.name_or_path})
    examples = with_vocabulary(series.free("test", args.limit, args.seed, kinds=("count",)))
    observations = observe(model, processor, examples, args)
    rows = [each.row for each in observations]
    result = study(rows)
    with (folder / "attention.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    disk.write_json(folder / "attention.json", result)
    for name in OUTCOMES:
        these = [number for number, row in enumerate(rows) if row["outcome"] == name and row["gold"] > 0]
        for number in Random(args.seed).sample(these, min(args.pictures, len(these))):
            grid, covered = observations[number].grid, observations[number].covered
            image = overlay(examples[number].open_images()[0], grid, covered)
            image.save(folder / f"{name.replace(' ', '_')}-{rows[number]['id']}.png")
    print(f"{table(result)}\nwritten to {run.folder}")
    return result


if __name__ == "__main__":
    cli.run(main, Args)
