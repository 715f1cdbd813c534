"""Makes the embedded model: a small PaliGemma 2 that sees two rendered worlds, from random weights.

python -m pretrain.embedded    # 2 CPU cores: about two hours; a GPU: minutes; run again to resume

Stages, each resumable, all under --work_dir:
1. items of both worlds are drawn once (`scenes_world`, `nodes_world`);
2. the vision tower learns what lies on each patch (dense targets: `targets`, `vision`);
3. with vision frozen, the language side learns to answer from the image (`language`): short free questions
   first, then some of the benchmarks' forms too. SAT's, CV-Bench's and VSR's wording, with options to choose
   from, is never among them: the model sees what they ask about, and training has something to teach.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pretrain import build, card, language, nodes_world, scenes_world, vision, worlds
from spatialvlm import cli

# Lessons, each a plan of a world, one batch after another, again and again.
FREE = ("scenes-short", "scenes-pairs", "nodes-short")
FORMS = (
    *("scenes-short", "scenes-pairs", "nodes-short", "scenes-official"),
    *("scenes-rooms", "scenes-pairs", "nodes-forms", "scenes-official"),
    *("scenes-short", "nodes-routes", "scenes-thoughts"),
)


@dataclass
class Args:
    output_dir: str = field(default="results/pretrain_embedded", metadata={"help": "where the model goes"})
    work_dir: str = field(default=".pretrain", metadata={"help": "images, checkpoints; not needed after"})
    scenes: int = field(default=30_000, metadata={"help": "rendered training scenes"})
    nodes: int = field(default=12_000, metadata={"help": "rendered training images of nodes"})
    validation: int = field(default=1_000, metadata={"help": "items of each world to measure on"})
    vision_steps: int = field(default=1_400, metadata={"help": "batches of 128 images for the vision tower"})
    language_steps: int = field(default=2_250, metadata={"help": "language batches: short free questions"})
    forms_steps: int = field(default=550, metadata={"help": "language batches: some benchmarks' forms too"})
    seed: int = field(default=0, metadata={"help": "of weights, order and augmentation"})
    compile: bool = field(default=True, metadata={"help": "torch.compile, where there is a C++ compiler"})
    card_questions: int = field(default=400, metadata={"help": "test questions of each kind for the card"})
    official: str | None = field(
        default=None, metadata={"help": "a CLEVR folder of official form: the card reports on it too"}
    )


def main(args: Args) -> None:
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    work = Path(args.work_dir)
    processor = build.processor()
    model = build.model(processor).to(device)

    both = (scenes_world.WORLD, nodes_world.WORLD)

    def drawn(split: str, *counts: int) -> list[worlds.Corpus]:
        found = []
        for world, count in zip(both, counts, strict=True):
            folder = work / world.name / split
            worlds.draw(folder, world, split, count)
            found.append(worlds.Corpus(folder, count))
        return found

    validation = drawn("validation", args.validation, args.validation)
    train = drawn("train", args.scenes, args.nodes)
    seer = vision.Seer(model.model.vision_tower).to(device)
    vision.train(seer, train, validation, work, args.vision_steps, (96, 32), args.seed, args.compile)
    tower = model.model.vision_tower.requires_grad_(False)
    seen = {
        split: [
            vision.features(tower, corpus.image, work / world.name / f"{split}-features.pt")
            for world, corpus in zip(both, corpora, strict=True)
        ]
        for split, corpora in (("train", train), ("validation", validation))
    }

    torch.manual_seed(args.seed + 1)  # a run that resumed after the vision stage draws the same start
    some = torch.cat([features[:256] for features in seen["train"]])
    language.align(model.cpu(), processor, seer.heads.cpu(), some)
    language.match_content(model)
    streams = language.TwoStreams(model.to(device), args.compile).to(device)

    def lessons(split: str, corpora: list[worlds.Corpus], turns: tuple[str, ...]):
        found = {}
        for world, corpus, features in zip(both, corpora, seen[split], strict=True):
            for name, plan in world.plans.items():
                if (lesson := f"{world.name}-{name}") in turns:
                    folder, seed = work / world.name / f"{split}-{name}", f"{split}-{name}-{args.seed}"
                    quiz = worlds.ask(folder, corpus.facts, processor, plan, seed)
                    found[lesson] = language.Lesson(quiz, corpus, features, plan.answer)
        return found

    for stage, turns, steps, rate in (
        ("language", FREE, args.language_steps, 1.5e-3),
        ("forms", FORMS, args.forms_steps, 1e-3),  # forms are a skill of their own: a high rate again
    ):
        taught, tested = lessons("train", train, turns), lessons("validation", validation, turns)
        language.train(
            stage, taught, tested, turns, steps, rate, streams=streams, folder=work, seed=args.seed
        )

    output = Path(args.output_dir)
    build.save(model, processor, output)
    scores = card.measure(model.float().to(device), processor, args.card_questions, args.official)
    curve = [json.loads(row) for row in (work / "curve.jsonl").read_text().splitlines()]
    card.write(output, scores, args, curve)
    for form, rows in scores.items():
        print(f"\n{form}\n{card.table(rows)}")


if __name__ == "__main__":
    cli.run(main, Args)
