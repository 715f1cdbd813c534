"""Worker processes change nothing but the time: the same batches, records and one-line errors."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch

from spatialvlm.errors import UserError
from spatialvlm.evaluation.evaluate import by_length, predict, prepared
from spatialvlm.example import Example


def questions(count: int, folder: Path | None = None) -> list[Example]:
    """Prompts of several lengths, with one image each: in memory, or in a folder."""

    def image(number: int):
        if folder is None:
            return tiny.image(number)
        tiny.image(number).save(folder / f"{number}.png")
        return folder / f"{number}.png"

    return [
        Example(
            f"q{n}", (image(n),), "what is left of the" + " red" * (n % 4), "(A)", "t", ("cube", "sphere")
        )
        for n in range(count)
    ]


def test_batches_are_the_same_with_and_without_workers(tmp_path):
    examples, shards = questions(7, tmp_path), [[0, 1, 2], [], [6, 3], [5]]
    alone = list(prepared(tiny.processor(), examples, shards, workers=0))
    helped = list(prepared(tiny.processor(), examples, shards, workers=2))
    assert [[e.id for e in batch.examples] for batch in helped] == [
        [f"q{index}" for index in shard] for shard in shards
    ]
    for one, other in zip(alone, helped, strict=True):
        assert one.examples == other.examples
        assert (one.inputs is None) == (other.inputs is None) == (not one.examples)
        for name in ("input_ids", "attention_mask", "pixel_values"):
            if one.inputs:
                assert torch.equal(getattr(one.inputs, name), getattr(other.inputs, name))


def test_images_do_not_travel():
    (batch,) = prepared(tiny.processor(), questions(2), [[0, 1]], workers=0)
    assert batch.examples[1].prompt == questions(2)[1].prompt
    assert all(isinstance(image, Path) for example in batch.examples for image in example.images)


def test_records_are_the_same_with_workers():
    model, processor = tiny.paligemma()
    records = predict(model, processor, questions(9), batch_size=4, max_new_tokens=3)
    assert records == predict(model, processor, questions(9), batch_size=3, max_new_tokens=3, num_workers=2)
    assert [record["id"] for record in records] == [f"q{n}" for n in range(9)]


def test_neighbours_have_prompts_of_one_length():
    assert by_length(range(6), [3, 9, 4, 9, 3, 4]) == [1, 3, 2, 5, 0, 4]
    assert by_length([4, 2, 0], [3, 9, 4, 9, 3, 4]) == [2, 4, 0]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_named(workers, tmp_path):
    examples, stream = questions(4), io.BytesIO()
    tiny.image(0).save(stream, "PNG")
    (tmp_path / "broken.png").write_bytes(stream.getvalue()[:100])
    examples[3] = replace(examples[3], images=(tmp_path / "broken.png",))
    model, processor = tiny.paligemma()
    with pytest.raises(UserError, match=r"image .*broken\.png cannot be read .*") as error:
        predict(model, processor, examples, batch_size=2, num_workers=workers)
    assert "\n" not in str(error.value)
