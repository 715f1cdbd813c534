"""Last stage: a true PaliGemma, with its own mask, processor and pixels, every weight at a low rate."""

from __future__ import annotations

from pathlib import Path
from random import Random

import torch
from PIL import Image
from transformers import PaliGemmaForConditionalGeneration, PaliGemmaProcessor

from pretrain import loop, quiz, vision
from spatialvlm.worlds.clevr.series import highlight


def train(
    model: PaliGemmaForConditionalGeneration,
    processor: PaliGemmaProcessor,
    corpus: vision.Corpus,
    folder: Path,
    steps: int,
    seed: int,
    batch_size: int = 64,
    learning_rate: float = 3e-4,
) -> None:
    """One question per row through `model(**batch)`, with the loss on the answer and its end; resumes."""
    model.requires_grad_(True)
    device = next(model.parameters()).device
    batch = loop.batches(len(corpus.scenes), batch_size, f"finish-{seed}")
    askers, shares = zip(*quiz.LAST.values(), strict=True)

    def rows(step: int) -> tuple[list[Image.Image], list[str], list[str]]:
        images, prompts, answers = [], [], []
        for i in batch(step).tolist():
            rng, question = Random(f"finish-{seed}-{step}-{i}"), None
            while question is None:
                question = rng.choices(askers, shares)[0](corpus.scenes[i], rng)
            image = Image.fromarray(corpus.images[i].numpy())
            images.append([highlight(image, corpus.scenes[i], question.boxes)])
            prompts.append("<image>" + question.prompt)
            answers.append(question.answer.strip("()"))
        return images, prompts, answers

    def loss(step: int) -> torch.Tensor:
        images, prompts, answers = rows(step)
        inputs = processor(
            images=images, text=prompts, suffix=answers, padding="longest", return_tensors="pt"
        )
        generator = torch.Generator().manual_seed(loop.hash_seed(f"finish-{seed}-{step}"))
        inputs["pixel_values"] = vision.augment(inputs["pixel_values"], generator)
        inputs["labels"][inputs["attention_mask"] == 0] = -100
        with torch.autocast(device.type, torch.bfloat16):
            return model(**inputs.to(device)).loss

    loop.fit("finish", folder, model, loss, steps, learning_rate, dict, evaluations=4)


def save(model: PaliGemmaForConditionalGeneration, processor: PaliGemmaProcessor, folder: Path) -> None:
    """Writes model (float16) and processor in the form that `from_pretrained` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    model.eval().to("cpu", torch.float16).save_pretrained(folder)
    processor.save_pretrained(folder)
