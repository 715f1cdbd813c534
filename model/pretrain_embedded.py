"""Makes the embedded model: a small PaliGemma 2 that sees CLEVR's world, from random weights.

python model/pretrain_embedded.py            # a GPU: minutes; 2 CPU cores: under two hours; run again to go
on

Four stages, each resumable, all under --work_dir:
1. scenes are drawn once;
2. the vision tower learns what lies on each patch (dense labels: `spatialvlm/pretrain/vision.py`);
3. with vision frozen, the language side learns to answer from the image (`language.py`), under a curriculum
of short
   free questions, then all families, then the test's forms;
4. everything together for a while as a true PaliGemma: its own mask, processor and pixels (`finish.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch

from spatialvlm import cli
from spatialvlm.pretrain import build, card, corpus, finish, language, quiz, vision

# plan, questions a scene, tokens a question
PLANS = ((quiz.EASY, 12, 24), (quiz.ALL, 16, 28), (quiz.FORMS, 6, 88), (quiz.PLACES, 8, 16))


@dataclass
class Args:
    output_dir: str = field(default="results/pretrain_embedded", metadata={"help": "where the model goes"})
    work_dir: str = field(default=".pretrain", metadata={"help": "scenes, checkpoints; not needed after"})
    scenes: int = field(default=40_000, metadata={"help": "rendered training scenes"})
    validation_scenes: int = field(default=1_000, metadata={"help": "rendered scenes to measure on"})
    vision_steps: int = field(default=1_700, metadata={"help": "batches of 128 images for the vision tower"})
    easy_steps: int = field(default=200, metadata={"help": "language batches: existence, attribute, count"})
    all_steps: int = field(default=310, metadata={"help": "language batches: all six families"})
    places_steps: int = field(default=540, metadata={"help": "in turn with: where and how far things are"})
    forms_steps: int = field(default=360, metadata={"help": "language batches: the test's forms too"})
    finish_steps: int = field(default=150, metadata={"help": "last batches, through the true model"})
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

    for seed, count in (("pretrain-validation", args.validation_scenes), ("pretrain", args.scenes)):
        corpus.draw(work / seed, seed, count, build.IMAGE_SIZE, build.PATCH_SIZE)
    validation = vision.Corpus(work / "pretrain-validation", args.validation_scenes)
    train = vision.Corpus(work / "pretrain", args.scenes)

    seer = vision.Seer(model.model.vision_tower).to(device)
    vision.train(seer, train, validation, work, args.vision_steps, 128, args.seed, args.compile)
    model.model.vision_tower.requires_grad_(False)
    seen, seen_validation = (vision.features(model.model.vision_tower, c.images) for c in (train, validation))
    train.classes = train.values = None  # two gigabytes that nothing needs any more

    torch.manual_seed(args.seed + 1)  # a run that resumed after the vision stage draws the same start
    language.align(model.cpu(), processor, seer.heads.cpu(), seen[:256])
    language.match_content(model)
    model.to(device)

    def asked(name: str, scenes: list, part: int) -> quiz.Quiz:
        plan, each, length = PLANS[part]
        seed = f"{name}-{part}-{args.seed}"
        return quiz.make(work / f"quiz-{name}-{part}.npz", scenes, processor, plan, each, length, seed)

    easy, everything, forms, places = (asked("train", train.scenes, part) for part in range(len(PLANS)))
    parts = [
        ((easy,), args.easy_steps),
        ((everything,), args.all_steps),
        ((places, everything), args.places_steps),
    ]
    tests = [asked("validation", validation.scenes, part) for part in (0, 1, 1, 2)]
    common = (work, 64, args.seed)
    images = (seen, seen_validation)
    horizon = sum(steps for _, steps in parts) + 300
    language.train("language", model, *images, parts, tests[:3], *common, 1.5e-3, args.compile, horizon)
    parts = [((forms, everything), args.forms_steps)]  # a skill of its own, which needs a high rate again
    language.train("forms", model, *images, parts, tests[3:], *common, 1e-3, args.compile)

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
