"""Makes the embedded model: a small PaliGemma 2 that sees CLEVR's world, from random weights.

python -m pretrain.embedded    # 2 CPU cores: under two hours; a GPU: minutes; run again to resume

Stages, each resumable, all under --work_dir:
1. scenes are drawn once;
2. the vision tower learns what lies on each patch (dense labels: `pretrain/vision.py`);
3. with vision frozen, the language side learns to answer from the image (`language.py`): short free questions
   first, then the test's forms;
4. everything together for a while as a true PaliGemma: its own mask, processor and pixels (`finish.py`).
   Lettered options come with the right one first here, so that the model favours A; the card says why.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import PaliGemmaForConditionalGeneration

from pretrain import build, card, corpus, finish, language, quiz, vision
from spatialvlm import cli
from spatialvlm.errors import UserError


@dataclass
class Args:
    output_dir: str = field(default="results/pretrain_embedded", metadata={"help": "where the model goes"})
    work_dir: str = field(default=".pretrain", metadata={"help": "scenes, checkpoints; not needed after"})
    scenes: int = field(default=40_000, metadata={"help": "rendered training scenes"})
    validation_scenes: int = field(default=1_000, metadata={"help": "rendered scenes to measure on"})
    vision_steps: int = field(default=1_700, metadata={"help": "batches of 128 images for the vision tower"})
    language_steps: int = field(default=1_300, metadata={"help": "language batches: short free questions"})
    forms_steps: int = field(default=600, metadata={"help": "language batches: the test's forms too"})
    finish_steps: int = field(default=80, metadata={"help": "last batches, through the true model"})
    tower: str | None = field(
        default=None, metadata={"help": "a model made before: its vision tower is taken, stage 2 is left out"}
    )
    seed: int = field(default=0, metadata={"help": "of weights, order and augmentation"})
    compile: bool = field(default=True, metadata={"help": "torch.compile, where there is a C++ compiler"})
    card_questions: int = field(default=400, metadata={"help": "test questions of each kind for the card"})
    official: str | None = field(
        default=None, metadata={"help": "a CLEVR folder of official form: the card reports on it too"}
    )


def main(args: Args) -> None:
    if args.tower is not None and not (Path(args.tower) / "config.json").is_file():
        raise UserError(f"--tower {args.tower}: no config.json there; give a folder this script made")
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    work = Path(args.work_dir)
    processor = build.processor()
    model = build.model(processor).to(device)

    for seed, count in (("pretrain-validation", args.validation_scenes), ("pretrain", args.scenes)):
        corpus.draw(work / seed, seed, count, build.IMAGE_SIZE, build.PATCH_SIZE)
    validation = vision.Corpus(work / "pretrain-validation", args.validation_scenes)
    train = vision.Corpus(work / "pretrain", args.scenes)

    seer = vision.Seer(model.model.vision_tower).to(device)
    if args.tower is None:
        vision.train(seer, train, validation, work, args.vision_steps, 128, args.seed, args.compile)
    else:
        given = PaliGemmaForConditionalGeneration.from_pretrained(args.tower, dtype=torch.float32)
        seer.tower.load_state_dict(given.model.vision_tower.state_dict())
    model.model.vision_tower.requires_grad_(False)
    seen = tuple(vision.features(model.model.vision_tower, c.images) for c in (train, validation))
    if args.tower is not None:
        vision.fit_heads(seer, seen[0], train, args.seed)
    train.classes = train.values = None  # two gigabytes that nothing needs any more

    torch.manual_seed(args.seed + 1)  # a run that resumed after the vision stage draws the same start
    language.align(model.cpu(), processor, seer.heads.cpu(), seen[0][:256])
    language.match_content(model)
    streams = language.TwoStreams(model.to(device), args.compile).to(device)
    known = tuple(language.Things(c.scenes) for c in (train, validation))

    def asked(name: str, plan: quiz.Plan, each: int, length: int) -> tuple[quiz.Quiz, quiz.Quiz]:
        made = []
        for split, scenes in (("train", train.scenes), ("validation", validation.scenes)):
            path, seed = work / f"quiz-{split}-{name}.npz", f"{split}-{name}-{args.seed}"
            made.append(quiz.make(path, scenes, processor, plan, each, length, seed))
        return tuple(made)

    common = {"streams": streams, "features": seen, "known": known, "folder": work, "seed": args.seed}
    free, test = asked("free", quiz.SHORT, 16, 28)
    steps, horizon = args.language_steps, args.language_steps + args.language_steps // 5
    language.train("language", (free,), test, steps, 1.5e-3, horizon=horizon, **common)
    # The test's forms are a skill of their own, which needs a high rate again.
    forms, test = asked("forms", quiz.FORMS, 6, 88)
    language.train("forms", (forms, free), test, args.forms_steps, 1e-3, **common)

    finish.train(model, processor, train, work, args.finish_steps, args.seed)
    output = Path(args.output_dir)
    finish.save(model, processor, output)
    scores = card.measure(model.float(), processor, args.card_questions, args.official)
    curve = [json.loads(row) for row in (work / "curve.jsonl").read_text().splitlines()]
    card.write(output, scores, args, curve)
    for form, rows in scores.items():
        print(f"\n{form}\n{card.table(rows)}")


if __name__ == "__main__":
    cli.run(main, Args)
