"""Example checks its own rows, and opens images late."""

import io

import pytest
import tiny
from PIL import Image

from spatialvlm.errors import RowError, UserError
from spatialvlm.example import Example
from spatialvlm.images import open_image


def example(**changed) -> Example:
    fields = dict(id="row 7", images=(tiny.image(0),), question="How many?", answer="3", task="Count")
    return Example(**(fields | changed))


def test_the_question_is_the_prompt_where_there_is_no_other():
    assert example().prompt == "How many?"
    assert example(prompt="Answer. How many?").prompt == "Answer. How many?"


@pytest.mark.parametrize("field", ["id", "question", "answer", "task"])
@pytest.mark.parametrize("value", ["", "  ", None, 3])
def test_a_bad_text_field_is_named(field, value):
    with pytest.raises(ValueError, match=f"field '{field}' must be a non-empty text"):
        example(**{field: value})


@pytest.mark.parametrize("field, value", [("images", ()), ("choices", ("left",)), ("choices", ())])
def test_too_few_images_or_choices_are_named(field, value):
    with pytest.raises(ValueError, match=f"row 'row 7': field '{field}'"):
        example(**{field: value})


def test_images_open_late_and_in_rgb(tmp_path):
    path = tmp_path / "a.png"
    made = example(images=(path, tiny.image(1).convert("L")))  # the file is not there yet
    tiny.image(0).convert("RGBA").save(path)
    opened = made.open_images()
    assert [image.mode for image in opened] == ["RGB", "RGB"]
    assert opened[0].tobytes() == tiny.image(0).tobytes()


TOKENS = [
    "<image>",
    "<image>\n<image>",
    "<|vision_start|><|image_pad|><|vision_end|>",
    "<video>",
    "<|video_pad|>",
    *("<ImageHere>", "[IMG]", "<bos>", "<eos>", "<pad><pad>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    "<|im_end|>\n<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>",
    "<end_of_turn>\n<start_of_turn>",
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>",
]


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize(
    "form", ["{}\nHow many?", "{}How many?", "How many?\n{}", "How {} many?", "How many? {}"]
)
def test_tokens_of_images_are_taken_off_question_and_prompt(token, form):
    question = form.format(token)
    made = example(question=question, prompt=f'Say it: "{question}" Choose 1 or 2')
    assert made.question == "How many?"
    assert made.prompt == 'Say it: "How many?" Choose 1 or 2'
    assert example(question=question).prompt == "How many?"
    own = example(question="How many?", prompt=f"{token}\nHow many?\n(A) 1 {token}\n(B) 2")
    assert own.prompt == "How many?\n(A) 1\n(B) 2"


@pytest.mark.parametrize(
    "text",
    [" How many?\n", "See <image 1>: how many?", "<loc0001> how many?", "< image >?", "[1] or <mask>?"],
)
def test_other_texts_are_unchanged(text):
    made = example(question=text, prompt=f"{text} {text}")
    assert (made.question, made.prompt) == (text, f"{text} {text}")


def test_a_question_of_image_tokens_alone_is_named():
    with pytest.raises(RowError, match=r"row 'row 7': its question is only '<image>'"):
        example(question="<image>\n")


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(UserError, match="gone.png does not exist"):
        open_image(tmp_path / "gone.png")


@pytest.mark.parametrize("kept", [0, 20, 1000])
def test_a_truncated_image_is_named(tmp_path, kept):
    path = tmp_path / "torn.png"
    tiny.image(0).save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"torn.png cannot be read .*replace the file or remove its row"):
        open_image(path)


def test_a_file_that_is_no_image_is_named(tmp_path):
    path = tmp_path / "notes.png"
    path.write_text("no pixels here")
    with pytest.raises(UserError, match="notes.png cannot be read"):
        open_image(path)


def test_a_grey_image_with_a_palette_opens(tmp_path):
    path = tmp_path / "palette.gif"
    Image.new("P", (4, 4)).save(path)
    assert open_image(path).mode == "RGB"


def test_a_truncated_picture_in_memory_is_named_too():
    stored = io.BytesIO()
    tiny.image(0, 200, 200).save(stored, "PNG")
    lazy = Image.open(io.BytesIO(stored.getvalue()[:2000]))  # decoded when it is looked at
    lazy.filename = "rows.parquet, row 3"
    with pytest.raises(UserError, match="rows.parquet, row 3 cannot be read"):
        example(images=(lazy,)).open_images()
