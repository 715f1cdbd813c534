"""Shuffled images: no question keeps its image, everything else stays."""

from collections import Counter
from dataclasses import replace

import pytest
import tiny

from spatialvlm.errors import UserError
from spatialvlm.evaluation.ablations import shuffle_images
from spatialvlm.example import Example


def asked(number: int, picture: int, task: str = "Count", images: int = 1) -> Example:
    pictures = tuple(tiny.image(picture + 1000 * i) for i in range(images))
    return Example(f"q{number}", pictures, "How many?", "3", task)


def pixels(example: Example) -> tuple:
    return tuple(image.tobytes() for image in example.images)


def check(examples, shuffled):
    assert len(shuffled) == len(examples)
    by_id = {example.id: example for example in examples}
    for before, after in zip(examples, shuffled, strict=True):
        assert pixels(after) != pixels(before)
        assert pixels(after) == pixels(by_id[after.meta["images_of"]])
        assert replace(after, images=before.images, meta=before.meta) == before
    assert Counter(map(pixels, examples)) == Counter(map(pixels, shuffled))


@pytest.mark.parametrize("seed", range(5))
def test_every_question_gets_another_picture_of_its_task(seed):
    examples = [asked(n, picture=n, task=("Count", "Depth")[n % 2]) for n in range(21)]
    shuffled = shuffle_images(examples, seed)
    check(examples, shuffled)
    task_of = {example.id: example.task for example in examples}
    assert all(task_of[example.meta["images_of"]] == example.task for example in shuffled)


@pytest.mark.parametrize("seed", range(5))
def test_questions_that_share_pictures_still_get_another(seed):
    sizes = [4, 1, 3, 2, 4, 1]  # images by how many questions each has
    pictures = [picture for picture, size in enumerate(sizes) for _ in range(size)]
    examples = [asked(number, picture) for number, picture in enumerate(pictures)]
    check(examples, shuffle_images(examples, seed))


def test_half_of_the_questions_on_one_image_is_the_most():
    examples = [asked(0, 7), asked(1, 7), asked(2, 8), asked(3, 9)]
    check(examples, shuffle_images(examples))
    with pytest.raises(UserError, match="over half of the questions have one and the same image"):
        shuffle_images([*examples, asked(4, 7)])


def test_a_task_with_one_picture_swaps_across_tasks():
    examples = [asked(0, 0, "Depth"), asked(1, 1), asked(2, 2), asked(3, 3)]
    check(examples, shuffle_images(examples))


def test_pairs_of_images_swap_with_pairs():
    examples = [asked(n, n, images=1 + n % 2) for n in range(8)]
    shuffled = shuffle_images(examples)
    check(examples, shuffled)
    assert [len(example.images) for example in shuffled] == [1, 2] * 4


def test_the_seed_decides():
    examples = [asked(n, n) for n in range(12)]
    by_seed = [
        [example.meta["images_of"] for example in shuffle_images(examples, seed)] for seed in (0, 0, 1)
    ]
    assert by_seed[0] == by_seed[1] != by_seed[2]
