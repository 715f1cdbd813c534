"""Last stage: a true PaliGemma, with its own mask, processor and pixels, every weight at a low rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import torch
from PIL import Image
from transformers import PaliGemmaForConditionalGeneration, PaliGemmaProcessor

from pretrain import loop, vision
from pretrain.worlds import Asked, Corpus, Facts, Plan, World
from spatialvlm.worlds.clevr.series import highlight

Part = tuple[World, Corpus, Mapping[str, float], int]  # with the weight of each plan, and items per batch


def train(
    model: PaliGemmaForConditionalGeneration,
    processor: PaliGemmaProcessor,
    parts: Sequence[Part],
    folder: Path,
    steps: int,
    seed: int,
    learning_rate: float = 3e-4,
) -> None:
    """One question per row through `model(**batch)`, with the loss on the answer and its end; resumes."""
    model.requires_grad_(True)
    device = next(model.parameters()).device
    batches = [
        loop.batches(len(corpus), size, f"finish-{world.name}-{seed}") for world, corpus, _, size in parts
    ]

    def loss(step: int) -> torch.Tensor:
        images, prompts, answers = [], [], []
        for (world, corpus, shares, _), batch in zip(parts, batches, strict=True):
            for item in batch(step).tolist():
                facts, rng = corpus.facts[item], Random(f"finish-{seed}-{step}-{item}")
                asked = _ask(world.plans, shares, facts, rng)
                image = Image.fromarray(corpus.image[item].numpy())
                images.append([highlight(image, facts, asked.boxes) if asked.boxes else image])
                prompts.append("<image>" + asked.prompt)
                answers.append(asked.answer)
        inputs = processor(
            images=images, text=prompts, suffix=answers, padding="longest", return_tensors="pt"
        )
        generator = torch.Generator().manual_seed(loop.hash_seed(f"finish-{seed}-{step}"))
        inputs["pixel_values"] = vision.augment(inputs["pixel_values"], generator)
        inputs["labels"][inputs["attention_mask"] == 0] = -100
        with torch.autocast(device.type, torch.bfloat16):
            return model(**inputs.to(device)).loss

    loop.fit("finish", folder, model, loss, steps, learning_rate, dict, evaluations=4, warmup=20)


def _ask(plans: Mapping[str, Plan], shares: Mapping[str, float], facts: Facts, rng: Random) -> Asked:
    """A question about an item, by the shares of the plans and of their kinds."""
    fitting = [name for name in shares if plans[name].only(facts)]
    while True:
        plan = plans[rng.choices(fitting, [shares[name] for name in fitting])[0]]
        asker, _ = rng.choices([*plan.askers.values()], [share for _, share in plan.askers.values()])[0]
        if asked := asker(facts, rng):
            return asked


def save(model: PaliGemmaForConditionalGeneration, processor: PaliGemmaProcessor, folder: Path) -> None:
    """Writes model (float16) and processor in the form that `from_pretrained` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    model.eval().to("cpu", torch.float16).save_pretrained(folder)
    processor.save_pretrained(folder)
