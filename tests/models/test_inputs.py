"""Inputs as PaliGemmaProcessor makes them, images preprocessed once, and bad input refused."""

import pytest
import tiny
import torch

from spatialvlm.errors import UserError
from spatialvlm.models.inputs import Completions, ImageCache, decode, encode, forbidden_tokens
from spatialvlm.models.rollout import sample

PROMPTS = ["how many red cubes?", "what is left of the red cube behind the blue sphere?"]


@pytest.fixture
def images():
    return [[tiny.image(0)], [tiny.image(1, 50, 20), tiny.image(2)]]


def test_encode_equals_the_processor(tiny_paligemma, images):
    _, processor = tiny_paligemma
    batch = encode(processor, PROMPTS, images)
    texts = [processor.image_token * len(each) + prompt for each, prompt in zip(images, PROMPTS, strict=True)]
    expected = processor(text=texts, images=images, padding=True, padding_side="left", return_tensors="pt")
    assert torch.equal(batch.input_ids, expected["input_ids"])
    assert torch.equal(batch.attention_mask, expected["attention_mask"])
    assert torch.equal(batch.pixel_values, expected["pixel_values"])
    assert batch.image_counts == (1, 2)


def test_select_equals_encoding_alone(tiny_paligemma, images):
    _, processor = tiny_paligemma
    batch = encode(processor, PROMPTS, images)
    for row in (0, 1):
        alone, selected = (
            encode(processor, PROMPTS[row : row + 1], images[row : row + 1]),
            batch.select([row]),
        )
        for name in ("input_ids", "attention_mask", "pixel_values"):
            assert torch.equal(getattr(selected, name), getattr(alone, name)), name
    assert batch.image_rows([1, 0, 1]) == [1, 2, 0, 1, 2]


def test_cache_returns_the_same_pixels_and_stays_within_its_bounds(tiny_paligemma, images, tmp_path):
    _, processor = tiny_paligemma
    path = tmp_path / "image.png"
    images[0][0].save(path)
    cache = ImageCache(max_bytes=2 * 3 * 28 * 28 * 4 + 3000 + 3600)
    first = cache.pixels(processor, path)
    path.unlink()
    assert cache.pixels(processor, path) is first
    for image in images[1]:  # room for two: the path's entry goes
        cache.pixels(processor, image)
    with pytest.raises(UserError, match="image.png does not exist"):
        cache.pixels(processor, path)


def test_forbidden_tokens(tiny_paligemma):
    _, processor = tiny_paligemma
    names = set(processor.tokenizer.convert_ids_to_tokens(forbidden_tokens(processor)))
    assert {"<pad>", "<image>", "<loc0000>", "<loc1023>", "<seg000>", "<seg127>"} <= names
    assert len(names) == 2 + 1024 + 128


def test_decode_drops_special_tokens(tiny_paligemma, images):
    model, processor = tiny_paligemma
    batch = encode(processor, PROMPTS, images)
    texts = decode(processor, sample(model, batch, 3, 4, seeds=[1, 2]))
    assert [len(group) for group in texts] == [3, 3]
    assert not any(
        "<" in text.replace("<unk>", "") or text != text.strip() for group in texts for text in group
    )


@pytest.mark.parametrize(
    ("prompts", "counts", "message"),
    [
        (["how many"], [0], "needs one or more"),
        (["how many", "what"], [1], "2 prompts"),
        ([], [], "0 prompts"),
        (["how many <image>"], [1], "how many <image>"),
    ],
)
def test_bad_input_is_refused(tiny_paligemma, prompts, counts, message):
    _, processor = tiny_paligemma
    with pytest.raises(ValueError, match=message):
        encode(processor, prompts, [[tiny.image(0)] * count for count in counts])


def test_selecting_completions_keeps_every_token():
    mask = torch.arange(5) < torch.tensor([[5, 1], [3, 2], [1, 4]])[..., None]
    tokens = torch.arange(30).view(3, 2, 5)
    completions = Completions(tokens, mask, torch.zeros(3, 2, 5))
    for rows in ([0], [1], [2], [1, 2], [2, 0]):
        selected = completions.select(rows)
        assert torch.equal(selected.tokens[selected.mask], tokens[rows][mask[rows]])
