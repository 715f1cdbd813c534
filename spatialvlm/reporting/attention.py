"""Where a PaliGemma looks while it answers, and whether it looks at what it counts.

python -m spatialvlm.reporting.attention                                   # 200 questions, embedded model
python -m spatialvlm.reporting.attention --method rollout --adapter results/pali_sat_grpo/v2/adapter
python -m spatialvlm.reporting.attention --profile paper --layers 12 13 14 --limit 1000    # GPU

The answer is read off the last position of the prompt, so that position's attention is taken: the mean of all
heads over the layers chosen, or rolled out through all layers (Abnar and Zuidema 2020, arXiv 2005.00928).
The image's part of it lies on a grid of patches. Of rendered scenes the pixels of every object are known, so
the share that falls on the objects counted is exact; beside it stands the share of the image that they take,
which attention without aim would have, and both as shares of all objects, which attention to things without
choice among them would have. One caveat: the vision tower mixes patches before the language model
looks.

Prints the shares of right, nearly right and wrong answers, and writes attention.json, one row a question in
attention.jsonl, and some pictures.
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
from spatialvlm.errors import UserError
from spatialvlm.evaluation import evaluate, metrics
from spatialvlm.evaluation.benchmark import STRICT_FREE
from spatialvlm.evaluation.metrics import Estimate
from spatialvlm.evaluation.tables import percent, text_table
from spatialvlm.example import Example
from spatialvlm.models import loading, paligemma, rollout
from spatialvlm.models.inputs import Batch
from spatialvlm.run_folder import Run
from spatialvlm.tasks.clevr.scoring import with_vocabulary
from spatialvlm.worlds.clevr import scenes, series
from spatialvlm.worlds.clevr.facts import VALUES, Scene, describe, matches
from spatialvlm.worlds.clevr.render import visibility

OUTCOMES = ("right", "off by one", "off by more", "unread")
FINE = 14  # pixels a side of a patch, of the masks
RESAMPLES = 2000
_COUNT = re.compile(r"How many (.+) are there\?")


@dataclass
class Args(loading.ModelArgs):
    limit: int = field(default=200, metadata={"help": "counting questions"})
    layers: list[int] = field(
        default_factory=list,
        metadata={"help": "language layers, counted from 0, for the mean; all by default"},
    )
    method: Literal["mean", "rollout"] = field(
        default="mean", metadata={"help": "mean over layers, or rolled out through all of them"}
    )
    batch_size: int = field(default=16, metadata={"help": "questions at a time; changes no figure"})
    pictures: int = field(default=3, metadata={"help": "pictures of each outcome"})
    output_dir: str | None = field(
        default=None, metadata={"help": "run folder; results/attention/<profile>-<method>-seed<seed>"}
    )

    def __post_init__(self) -> None:
        if min(self.limit, self.batch_size) < 1 or self.pictures < 0:
            raise UserError("--limit and --batch_size must be at least 1, --pictures not negative")
        if self.layers and self.method == "rollout":
            raise UserError("--method rollout goes through all layers; leave out --layers")


# ---- attention


@torch.no_grad()
def answer_attention(model, batch: Batch, layers: Sequence[int] = (), method: str = "mean") -> Tensor:
    """(B, P): how much the position that the answer is read off attends to each of the prompt's; sums to 1.

    Args:
        model: a PaliGemma with eager attention (others return no weights), with or without adapter.
        layers: which to take the mean over; all where empty. Of no use to `rollout`.
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
        token_type_ids=torch.zeros_like(batch.input_ids),  # 0: a prompt, read both ways
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
    """(grid (B, side, side) that sums to 1, the image's share of all attention (B,)); one image a prompt."""
    there = batch.input_ids == image_token
    flat = weights[there].view(len(weights), -1)
    side = math.isqrt(flat.shape[1])
    share = flat.sum(1)
    return (flat / share[:, None]).view(-1, side, side), share


# ---- what is counted, and where it is


def counted(scene: Scene, question: str, answer: str) -> list[int]:
    """Which objects of a scene a question like "How many small red things are there?" counts.

    Raises:
        ValueError: a question of another form, or one whose answer is another number.
    """
    found = _COUNT.fullmatch(question)
    words = found[1].split() if found else []
    conditions = {
        name: value for name, values in VALUES.items() for value in values if {value, f"{value}s"} & {*words}
    }
    if not found or describe(conditions, plural=True) != found[1]:
        raise ValueError(f"{question!r} does not ask how many things there are")
    objects = matches(scene, conditions)
    if str(len(objects)) != answer:
        raise ValueError(f"{question!r} counts {len(objects)}, not {answer}")
    return objects


def mask(scene: Scene, objects: Sequence[int], side: int) -> np.ndarray:
    """(side * FINE, side * FINE) bool: the objects' pixels, the frame squeezed into a square."""
    _, _, seen = visibility(scene, scenes.view(scene), side * FINE, side * FINE)
    return np.isin(seen, list(objects))


def patch_shares(found: np.ndarray) -> np.ndarray:
    """(side, side): which part of each patch a mask covers."""
    side = len(found) // FINE
    return found.reshape(side, FINE, side, FINE).mean((1, 3))


# ---- the study


def outcome(said: float | None, gold: int) -> str:
    if said is None:
        return "unread"
    return OUTCOMES[min(int(math.ceil(abs(said - gold))), 2)]


def look(
    model, processor, examples: Sequence[Example], args: Args
) -> list[tuple[dict, np.ndarray, np.ndarray]]:
    """(row, attention grid, mask) of every question; a row holds outcome and shares."""
    settings = {"batch_size": args.batch_size, "rule": STRICT_FREE, "seed": args.seed}
    records = evaluate.predict(model, processor, examples, progress="answers", **settings)
    found = []
    for start in tqdm(range(0, len(examples), args.batch_size), desc="attention"):
        part = [examples[number] for number in range(start, min(start + args.batch_size, len(examples)))]
        batch = rollout.encode(
            processor,
            [example.prompt for example in part],
            [example.images for example in part],
            model.device,
        )
        weights = answer_attention(model, batch, args.layers, args.method)
        grids, image_shares = on_image(weights, batch, model.config.image_token_id)
        for example, record, grid, image_share in zip(
            part, records[start:], grids.cpu().numpy(), image_shares.tolist(), strict=False
        ):
            scene = scenes.make(*example.meta["scene"])
            covered = mask(scene, counted(scene, example.question, example.answer), len(grid))
            shares = patch_shares(covered)
            things = patch_shares(mask(scene, range(len(scene["objects"])), len(grid)))
            row = {name: record[name] for name in ("id", "prompt", "gold", "parsed")} | {
                "outcome": outcome(record["parsed"], record["gold"]),
                "attention": float((grid * shares).sum()),
                "area": float(shares.mean()),
                "attention_of_objects": float((grid * shares).sum() / (grid * things).sum()),
                "area_of_objects": float(shares.sum() / things.sum()),
                "image": image_share,
            }
            found.append((row, grid, covered))
    return found


def study(rows: Sequence[dict]) -> dict:
    """By outcome, of questions whose count is not 0: mean shares, and attention - area question by question.

    `of objects` takes the shares of what falls on any object, for a model may look at things more than at the
    ground without telling them apart. Intervals are 95 % bootstraps over questions. `right - wrong` is the
    difference of attention - area between right and wrong answers to questions of the same count, counts
    weighted by their questions.
    """
    asked = [row for row in rows if row["gold"] > 0]
    parts = {name: [row for row in asked if row["outcome"] == name] for name in OUTCOMES}
    parts = {"all": asked, **parts, "wrong": [row for row in asked if row["outcome"] != "right"]}
    found = {
        name: {
            "n": len(part),
            "attention": _mean(part, "attention").as_dict(),
            "area": _mean(part, "area").as_dict(),
            "attention - area": metrics.paired_mean_difference(
                [row["area"] for row in part], [row["attention"] for row in part]
            ).as_dict(),
            "of objects: attention": _mean(part, "attention_of_objects").as_dict(),
            "of objects: area": _mean(part, "area_of_objects").as_dict(),
            "of objects: attention - area": metrics.paired_mean_difference(
                [row["area_of_objects"] for row in part], [row["attention_of_objects"] for row in part]
            ).as_dict(),
            "image": _mean(part, "image").as_dict(),
        }
        for name, part in parts.items()
        if part
    }
    between = right_minus_wrong(asked)
    return {
        "questions": len(rows),
        "left_out_with_count_0": len(rows) - len(asked),
        "outcomes": found,
        "right - wrong": between.as_dict() if between else None,
    }


def _mean(rows: Sequence[dict], name: str) -> Estimate:
    return metrics.paired_mean_difference([0.0] * len(rows), [row[name] for row in rows])


def right_minus_wrong(rows: Sequence[dict]) -> Estimate | None:
    """The difference as `study` has it, with a percentile bootstrap within counts and outcomes; None where no
    count has at least two right and two wrong answers."""
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

    drawn = np.stack([mean_of(right) - mean_of(wrong) for wrong, right in cells], 1) @ weights / weights.sum()
    value = np.array([right.mean() - wrong.mean() for wrong, right in cells]) @ weights / weights.sum()
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(float(value), (float(low), float(high)), int(weights.sum()))


def table(found: dict) -> str:
    """The study in percent as lines of text."""
    columns = ("attention", "area", "attention - area")
    rows = [("counted objects", "n", *columns)]
    for prefix in ("", "of objects: "):
        rows += [("of what falls on any object",)] if prefix else []
        for name, part in found["outcomes"].items():
            cells = [percent(Estimate.of(part[prefix + column]), "-" in column) for column in columns]
            rows.append((name, str(part["n"]), *cells))
    lines = [text_table(rows, "<><")]
    if found["right - wrong"]:
        difference = percent(Estimate.of(found["right - wrong"]), True)
        lines.append(f"right - wrong, at the same count: {difference} (n = {found['right - wrong']['n']})")
    zero = found["left_out_with_count_0"]
    lines.append(f"percent of the attention that falls on the image, and of its area; 95 % intervals; {zero}")
    lines[-1] += f" of {found['questions']} questions count nothing and are left out"
    return "\n".join(line.rstrip() for line in lines)


def overlay(image: Image.Image, grid: np.ndarray, covered: np.ndarray, scale: int = 3) -> Image.Image:
    """The picture, and beside it the attention over it (bright = much) with the counted objects outlined."""
    size = image.width * scale, image.height * scale
    picture = np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS), dtype=float) / 255
    shown = Image.fromarray((255 * grid / grid.max()).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    heat = colormaps["inferno"](np.asarray(shown))[..., :3]
    mixed = 0.35 * picture.mean(2, keepdims=True) + 0.65 * heat
    inside = np.asarray(Image.fromarray(covered).resize(size, Image.Resampling.NEAREST))
    edge = np.zeros_like(inside)
    edge[1:-1, 1:-1] = inside[1:-1, 1:-1] & ~(
        inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    )
    mixed[edge] = (0.4, 1.0, 1.0)
    return Image.fromarray((255 * np.concatenate([picture, mixed], 1)).astype(np.uint8))


def main(args: Args) -> dict:
    profile, _ = loading.resolve_profile(args)
    model, processor = loading.load(args)
    folder = Path(args.output_dir or f"results/attention/{profile}-{args.method}-seed{args.seed}")
    run = Run(folder, asdict(args) | {"weights": model.config._name_or_path})
    examples = with_vocabulary(series.free("test", args.limit, args.seed, kinds=("count",)))
    found = look(model, processor, examples, args)
    rows = [row for row, _, _ in found]
    result = study(rows)
    with (folder / "attention.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    disk.write_json(folder / "attention.json", result)
    for name in OUTCOMES:
        these = [number for number, row in enumerate(rows) if row["outcome"] == name and row["gold"] > 0]
        for number in Random(args.seed).sample(these, min(args.pictures, len(these))):
            picture = overlay(examples[number].open_images()[0], *found[number][1:])
            picture.save(folder / f"{name.replace(' ', '_')}-{rows[number]['id']}.png")
    print(f"{table(result)}\nwritten to {run.folder}")
    return result


if __name__ == "__main__":
    cli.run(main, Args)
