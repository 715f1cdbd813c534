"""Tokens that stand for images in a question change no prompt, whatever reads the row and whichever model."""

from __future__ import annotations

import base64
import io
import json

import pytest
import tiny
import tiny_chat
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from spatialvlm.errors import RowError, UserError
from spatialvlm.models import inputs, qwen
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.tasks.cvbench import data as cvbench
from spatialvlm.tasks.sat import data as sat
from spatialvlm.tasks.vsi import data as vsi
from spatialvlm.tasks.vsr import data as vsr

FORMS = ["<image>\n{}", "{}\n<image>", "<|vision_start|><|image_pad|><|vision_end|>{}", "<image><image> {}"]


def png() -> str:
    content = io.BytesIO()
    tiny.image(0).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


PNG = png()
ROWS = {
    "sat": (
        sat.load,
        "question",
        {"image_bytes": [PNG], "question": "how many?", "answers": ["1", "2"], "question_type": "count"}
        | {"correct_answer": "1"},
    ),
    "cvbench": (
        cvbench.load,
        "question",
        {"idx": 0, "type": "2D", "task": "Count", "image": PNG, "question": "how many?", "source": "COCO"}
        | {"choices": ["1", "2"], "answer": "(A)", "prompt": "how many? (A) 1 (B) 2"},
    ),
    "vsr": (
        lambda path: vsr.load(path, "dev"),
        "caption",
        {"image": PNG, "caption": "The cat is left of the dog.", "label": 1, "relation": "left of"},
    ),
    "vsi": (
        vsi.load,
        "question",
        {"id": 0, "dataset": "scannet", "scene_name": "s", "question_type": "object_counting"}
        | {"question": "how many?", "ground_truth": "2", "options": None},
    ),
    "clevr": (
        clevr.load,
        "problem",
        {"image": PNG, "problem": "How many items are there?", "solution": "<answer> 3 </answer>"},
    ),
}


def loaded(name: str, folder, **changed):
    load, _, row = ROWS[name]
    file = folder / "dev.jsonl"
    file.write_text(json.dumps(row | changed))
    (example,) = load(file)
    return example


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ROWS)
def test_a_prompt_is_the_one_without_image_tokens(name, form, tmp_path):
    column, plain = ROWS[name][1], loaded(name, tmp_path)
    changed = {column: form.format(ROWS[name][2][column])}
    if name == "cvbench":  # which brings its prompt
        changed["prompt"] = form.format(ROWS[name][2]["prompt"])
    found = loaded(name, tmp_path, **changed)
    assert (found.question, found.prompt, found.choices) == (plain.question, plain.prompt, plain.choices)


@pytest.mark.parametrize("name", ROWS)
def test_a_question_of_image_tokens_alone_is_a_named_row(name, tmp_path):
    with pytest.raises((RowError, UserError), match="row"):
        loaded(name, tmp_path, **{ROWS[name][1]: "<image>\n"})


@pytest.mark.parametrize(
    "form",
    [
        "<image>\n{} <|image_pad|>",
        "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
        "<bos><start_of_turn>user\n{}<end_of_turn>\n<eos><pad>",
        "[IMG]<ImageHere>{}<|endoftext|>",
    ],
)
def test_both_kinds_of_model_take_such_a_prompt(form, tmp_path):
    plain = loaded("sat", tmp_path)
    found = loaded("sat", tmp_path, question=form.format("how many?"))
    processor = tiny.processor()
    ids = [
        inputs.encode(processor, [each.prompt], [each.images]).input_ids.tolist() for each in (plain, found)
    ]
    assert ids[0] == ids[1]
    tokenizer = tiny_chat.save_processor(tmp_path)
    images = Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, min_pixels=64, max_pixels=10_000)
    chat = qwen.ChatProcessor(tokenizer, images, tiny_chat.TEMPLATE)
    ids = [qwen.encode(chat, [each.prompt], [each.images]).input_ids.tolist() for each in (plain, found)]
    assert ids[0] == ids[1]
