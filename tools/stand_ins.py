"""A random checkpoint and data files in the published layout, for machines without the published ones.

What a run takes in time and memory depends on shapes, dtypes and files, not on what the weights know. The
checkpoint has PaliGemma 2 3B's shape, shards and token ids; SAT's and CV-Bench's files have the hub's names,
columns and row groups, with images about as large as theirs. Answers are random, but not hopeless: the end
token and the answers of the rows made here are far likelier than all other tokens, so rewards differ within
groups and GRPO has something to learn from.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
import pyarrow
import torch
from PIL import Image
from pyarrow import parquet
from tokenizers import AddedToken, Tokenizer
from transformers import PaliGemmaConfig, PaliGemmaProcessor, PreTrainedTokenizerFast, SiglipImageProcessor
from transformers.models.paligemma.processing_paligemma import EXTRA_TOKENS

from spatialvlm.disk import disk_errors, whole
from spatialvlm.models import loading, shapes

ANSWERS = ("yes", "no", "A", "B")
FIRST_LOCATION = 256_000  # the id of <loc0000>; <seg...> follow, and <image> is the last token
Shape = Literal["paligemma2-3b", "small"]


# ---- the checkpoint


def config(shape: Shape) -> PaliGemmaConfig:
    """PaliGemma 2 3B's configuration; `small` has its vocabulary, narrow layers and images of 56 pixels."""
    if shape == "paligemma2-3b":
        return shapes.paligemma2_3b()
    made = shapes.paligemma2_3b(image_size=56, decoder_layers=2, vision_layers=1)
    heads = {"num_attention_heads": 4, "intermediate_size": 128}
    key_heads = {"num_key_value_heads": 2, "head_dim": 16, "query_pre_attn_scalar": 16}
    made.text_config.update({"hidden_size": 64, **heads, **key_heads})
    made.vision_config.update({"hidden_size": 32, "projection_dim": 64, **heads})
    made.update({"hidden_size": 64, "projection_dim": 64})
    return made


def processor(image_size: int) -> PaliGemmaProcessor:
    """A processor with the published number of tokens and special ids, over the embedded model's words."""
    embedded = PaliGemmaProcessor.from_pretrained(loading.EMBEDDED).tokenizer.backend_tokenizer
    content = json.loads(embedded.to_str())
    words = content["model"]["vocab"]
    pieces = [*sorted(words, key=words.get), "\n"]  # <pad>, <eos>, <bos>, <unk> come first, as published
    pieces += [f"<unused{number}>" for number in range(FIRST_LOCATION - len(pieces))]
    content["model"]["vocab"] = {piece: i for i, piece in enumerate([*pieces, *EXTRA_TOKENS])}
    content["added_tokens"] = []
    special = {f"{name}_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk")}
    text = Tokenizer.from_str(json.dumps(content))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=text, clean_up_tokenization_spaces=False, **special)
    tokenizer.add_tokens([AddedToken("\n", normalized=False)])
    images = SiglipImageProcessor(size={"height": image_size, "width": image_size})
    images.image_seq_length = (image_size // 14) ** 2  # PaliGemmaProcessor reads it when it is made
    return PaliGemmaProcessor(images, tokenizer)


def write_checkpoint(folder: Path, shape: Shape, seed: int = 0) -> None:
    """Write model and processor to `folder`: bfloat16 safetensors in shards, as published."""
    made = config(shape)
    texts = processor(made.vision_config.image_size)
    torch.manual_seed(seed)
    model = shapes.random_model(made, torch.bfloat16)
    _make_likely(model, texts.tokenizer.convert_tokens_to_ids(ANSWERS), texts.tokenizer.eos_token_id)
    with disk_errors(folder, "give another --folder"), whole(folder) as aside:
        model.save_pretrained(str(aside), max_shard_size="5GB" if shape == "paligemma2-3b" else "20MB")
        texts.save_pretrained(str(aside))


@torch.no_grad()
def _make_likely(model, answers: Sequence[int], end: int) -> None:
    """Let `answers`, and `end` nearly as much, have all the probability, whatever came before.

    The residual stream's first entry is kept for that: no layer writes to it, and output embeddings, which
    are the input embeddings, have the same value there for all tokens but these.
    """
    language = model.model.language_model
    scale = language.config.hidden_size**0.5  # Gemma multiplies its input embeddings by it
    embeddings = language.embed_tokens.weight
    embeddings *= (
        50 / scale
    )  # of standard deviation 0.02, so that what goes into the first layer is of size 1
    embeddings[answers] = embeddings[end].clone()  # so that nothing else tells them apart
    embeddings[:, 0] = 1 / scale
    embeddings[answers, 0] = 11 / scale
    embeddings[end, 0] = 10.75 / scale
    language.norm.weight.fill_(-0.9)  # or the likeliest token would be the last one again
    language.norm.weight[0] = 2 * scale - 1  # Gemma's norms multiply by 1 + weight
    for layer in language.layers:
        for norm in (layer.post_attention_layernorm, layer.post_feedforward_layernorm):
            norm.weight.fill_(-0.9)
            norm.weight[0] = -1


# ---- the data


def write_sat(folder: Path, rows: int, seed: int = 0) -> None:
    """Write SAT's files with `rows` training rows and the published 150 of the test, each one row group."""
    rng, renders, photographs = Random(seed), _images(512, 512, 3, seed), _images(640, 480, 90, seed)
    for split, count, images in (("train", rows, renders), ("val", 100, renders), ("test", 150, photographs)):
        table = pyarrow.Table.from_pylist(
            [_sat_row(rng, number, images) for number in range(count)],
            pyarrow.schema(
                {
                    "image_bytes": pyarrow.list_(pyarrow.binary()),
                    "question": pyarrow.string(),
                    "answers": pyarrow.list_(pyarrow.string()),
                    "question_type": pyarrow.string(),
                    "correct_answer": pyarrow.string(),
                }
            ),
        )
        _write(folder / f"SAT_{split}.parquet", table)


def _sat_row(rng: Random, number: int, images: Sequence[bytes]) -> dict:
    """Every third row has two images, as questions about movement do."""
    answers = rng.sample(["yes", "no"], 2)
    side, colors = rng.choice(["left", "right"]), rng.sample(["red", "blue", "green", "yellow"], 2)
    return {
        "image_bytes": rng.sample(images, 1 + (number % 3 == 0)),
        "question": f"Considering the relative positions of the objects in the provided scene, is the "
        f"{colors[0]} chair to the {side} of the {colors[1]} table from where you are standing?",
        "answers": answers,
        "question_type": "obj_movement" if number % 3 == 0 else "other",
        "correct_answer": answers[0],
    }


def write_cvbench(folder: Path, rows: int, seed: int = 0) -> None:
    """Write CV-Bench's two files with `rows` rows each: Count and Relation, Depth and Distance."""
    rng = Random(seed)
    for kind, tasks, noise in (("2D", ("Count", "Relation"), 20), ("3D", ("Depth", "Distance"), 35)):
        images = _images(640, 480, noise, seed)
        table = pyarrow.Table.from_pylist(
            [_cvbench_row(rng, number, kind, tasks[number * 2 // rows], images) for number in range(rows)]
        )
        _write(folder / f"test_{kind.lower()}.parquet", table)


def _cvbench_row(rng: Random, number: int, kind: str, task: str, images: Sequence[bytes]) -> dict:
    questions = {
        "Count": ("How many chairs are in the image?", ["2", "3"]),
        "Relation": ("Where is the chair located with respect to the table?", ["above", "below"]),
        "Depth": (
            "Which object is closer to the camera taking this photo, the chair (highlighted by a red box) "
            "or the table (highlighted by a blue box)?",
            ["chair", "table"],
        ),
        "Distance": (
            "Which object is closer to the lamp (highlighted by a red box), the chair (highlighted by "
            "a blue box) or the table (highlighted by a green box)?",
            ["chair", "table"],
        ),
    }
    question, choices = questions[task]
    source = rng.choice(["ADE20K", "COCO"]) if kind == "2D" else "Omni3D"
    listed = "\n".join(f"({'AB'[at]}) {choice}" for at, choice in enumerate(choices))
    return {
        "idx": number + (0 if kind == "2D" else 10_000),
        "type": kind,
        "task": task,
        "image": {"bytes": rng.choice(images), "path": f"{task.lower()}_{number}.jpg"},
        "question": question,
        "choices": choices,
        "answer": rng.choice(["(A)", "(B)"]),
        "prompt": f"{question} Select from the following choices.\n{listed}",
        "filename": f"img/{kind}/{task.lower()}/{number}.png",
        "source": source,
        "source_dataset": f"{source} val",
        "source_filename": f"{number}.jpg",
        "target_class": None if kind == "2D" else ["chair", "table"],
        "target_size": None if kind == "2D" else 0.1,
        "bbox": None if kind == "2D" else [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]],
    }


def _images(width: int, height: int, noise: int, seed: int, count: int = 16) -> list[bytes]:
    """JPEG files of smooth colours under `noise`, which decides their size."""
    made = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        smooth = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height))
        pixels = np.asarray(smooth) + rng.normal(0, noise, (height, width, 3))
        stream = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
        made.append(stream.getvalue())
    return made


def _write(path: Path, table: pyarrow.Table) -> None:
    with disk_errors(path, "give another --folder"), whole(path) as aside:
        # Without a dictionary: the few images made here are to take as much as different ones.
        parquet.write_table(table, aside, row_group_size=len(table), use_dictionary=False)
