"""Shows the embedded model a further world: rendered rooms, or labelled nodes. Makes an adapter for it.

python -m pretrain.world_adapter --world rooms     # 2 CPU cores: about half an hour; run again to resume
python -m pretrain.world_adapter --world labels    # a quarter of an hour

The repository carries what this made, in spatialvlm/embedded/<world>: low-rank changes of the embedded model,
which `models.load` merges into it. What the model is taught, and what it is not, is in
pretrain/rooms_world.py and labels_world.py, and what it can do then in the card written beside the
weights. Stages, each resumable, all under --work_dir: images are rendered; the tower learns what lies on each
patch; then, with the tower frozen, the language side learns to answer.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from transformers import PaliGemmaForConditionalGeneration

from pretrain import (
    adapters,
    build,
    card,
    labels_world,
    language,
    rooms_world,
    vision,
    world_card,
    worlds,
    worlds_training,
)
from spatialvlm import cli
from spatialvlm.models import loading

WORLDS = {world.WORLD.name: world.WORLD for world in (rooms_world, labels_world)}


@dataclass
class Args:
    world: Literal["rooms", "labels"] = field(default="rooms", metadata={"help": "what to learn to see"})
    output_dir: str | None = field(
        default=None, metadata={"help": "where the adapter goes; results/pretrain_<world> where not given"}
    )
    work_dir: str = field(default=".pretrain", metadata={"help": "images, checkpoints; not needed after"})
    items: int | None = field(
        default=None, metadata={"help": "training items: rooms, or images of nodes; by world"}
    )
    validation_items: int = field(default=256, metadata={"help": "items to measure on"})
    tower_steps: int | None = field(
        default=None, metadata={"help": "batches of 128 frames for the vision tower; by world"}
    )
    language_steps: int | None = field(
        default=None, metadata={"help": "batches of 32 items for the language side; by world"}
    )
    tower_rate: float = field(default=2e-3, metadata={"help": "learning rate of the tower"})
    language_rate: float = field(default=2e-3, metadata={"help": "learning rate of the language side"})
    card_questions: int = field(default=100, metadata={"help": "test questions of each kind for the card"})
    seed: int = field(default=0, metadata={"help": "of weights, order and augmentation"})
    compile: bool = field(default=True, metadata={"help": "torch.compile, where there is a C++ compiler"})


def main(args: Args) -> None:
    world, work = WORLDS[args.world], Path(args.work_dir, args.world)
    args = replace(args, **{name: getattr(args, name) or size for name, size in asdict(world.sizes).items()})
    torch.manual_seed(args.seed)
    processor = build.processor()
    model = PaliGemmaForConditionalGeneration.from_pretrained(
        loading.EMBEDDED, dtype=torch.float32, attn_implementation="eager"
    )
    adapters.attach(model, processor.image_token_id)

    counts = {"validation": args.validation_items, "train": args.items}
    for split, count in counts.items():
        worlds.draw(work / split, world, processor, split, count)
    train, validation = (
        worlds.Corpus(work / split, world, counts[split]) for split in ("train", "validation")
    )

    tower = model.model.vision_tower
    seer = vision.Seer(tower, world.rows)
    worlds_training.train_tower(
        seer, (train, validation), work, args.tower_steps, args.seed, args.tower_rate, args.compile
    )
    tower.requires_grad_(False)
    seen = tuple(worlds_training.features(tower, corpus, world.frames) for corpus in (train, validation))
    train.images = validation.images = None  # memory that nothing needs any more

    torch.manual_seed(args.seed + 1)  # a run that resumed after the tower draws the same start
    worlds_training.align(model, processor, seen[0][:256], train, world)
    streams = language.TwoStreams(model, args.compile, rows=world.told)
    data, steps = (train, validation), args.language_steps
    worlds_training.train_language(streams, data, seen, world, work, steps, args.seed, args.language_rate)
    output = Path(args.output_dir or f"results/pretrain_{args.world}")
    adapters.save(model, loading.EMBEDDED, output)
    curve = [json.loads(row) for row in (work / "curve.jsonl").read_text().splitlines()]
    scores = world_card.measure(world, output, processor, args.card_questions)
    world_card.write(output, world, scores, curve, args)
    for form, rows in scores.items():
        print(f"\n{form}\n{card.table(rows)}")


if __name__ == "__main__":
    cli.run(main, Args)
