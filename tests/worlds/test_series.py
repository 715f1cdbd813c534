"""The embedded data sets: made from their index alone, splits apart, boxes where they belong."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from spatialvlm.errors import UserError
from spatialvlm.files.lazy import LazyExamples, mapped, prefetch
from spatialvlm.worlds.clevr import series
from spatialvlm.worlds.clevr.official_questions import FAMILIES
from spatialvlm.worlds.clevr.questions import CVBENCH_TASKS, FREE_KINDS, SAT_KINDS


@pytest.mark.parametrize(
    ("make", "kinds"),
    [
        (series.sat, SAT_KINDS),
        (series.cvbench, CVBENCH_TASKS),
        (series.clevr, FAMILIES),
        (series.free, FREE_KINDS),
    ],
)
def test_kinds_take_turns(make, kinds):
    found = make("test", 2 * len(kinds))
    assert [item.task for item in found] == [*kinds, *kinds]
    assert len({item.id for item in found}) == len(found) == 2 * len(kinds)
    assert found[0].open_images()[0].size == (series.WIDTH, series.HEIGHT)


def test_an_item_is_the_same_however_it_is_reached():
    long, short = series.sat("train", 1_000_000), series.sat("train", 8)
    first, again = long[6], short[2:][4]
    assert (first.prompt, first.answer, first.id) == (again.prompt, again.answer, again.id)
    assert np.array_equal(np.asarray(first.images[0]), np.asarray(again.images[0]))
    assert short[-1].id == short[7].id
    with pytest.raises(IndexError):
        short[8]


def test_rendered_ahead_by_several_processes_is_the_same():
    ahead, lazy = (series.sat("train", 50, share_scenes=True)[2:] for _ in range(2))
    changed = mapped(ahead, lambda example: replace(example, meta={}))
    prefetch(changed)
    assert all(ahead[index] is ahead[:][index] for index in range(48))
    assert [item.question for item in changed] == [item.question for item in lazy]
    assert [item.id for item in ahead] == [item.id for item in lazy]
    for one, other in zip(ahead, lazy, strict=True):
        assert (one.prompt, one.answer, one.meta) == (other.prompt, other.answer, other.meta)
        assert np.array_equal(np.asarray(one.images[0]), np.asarray(other.images[0]))


def test_what_is_not_rendered_or_more_than_memory_holds_is_not_made_ahead():
    made = []
    for lazy in (
        LazyExamples(made.append, range(50)),
        LazyExamples(made.append, range(4097), rendered="x"),
        LazyExamples(made.append, range(40), rendered="one block is not worth other processes"),
    ):
        prefetch(lazy)
    prefetch([])
    assert not made


def test_splits_and_seeds_share_no_scene():
    images = [
        series.free(split, 6, seed)[index].images[0].tobytes()
        for split in series.SPLITS
        for seed in (0, 1)
        for index in range(6)
    ]
    assert len(set(images)) == len(images) == 36
    with pytest.raises(UserError, match="train, validation, test, not 'val'"):
        series.sat("val", 4)


def test_answer_forms():
    letters = series.sat("train", 8, answer_form="letter")
    assert all(item.answer in "ABCD" for item in letters)
    natural = series.sat("train", 8)
    assert all(item.answer in item.choices for item in natural)
    mixed = Counter(item.prompt.split(".")[0] for item in series.sat("train", 24, answer_form="mixed"))
    assert mixed.keys() == {"Answer in natural language", "Answer with the letter"}
    with pytest.raises(UserError, match="--answer_form"):
        series.sat("train", 8, answer_form="word")


def test_out_of_distribution_twins():
    plain, twins = series.cvbench("test", 8), series.cvbench("test", 8, ood=True)
    for item, twin in zip(plain, twins, strict=True):
        assert (item.id, item.choices) == (twin.id, twin.choices)
        assert item.images[0].tobytes() == twin.images[0].tobytes()
        turned = item.task in ("Depth", "Distance")
        assert (item.answer != twin.answer) == ("far away from" in twin.question) == turned


def test_boxes_are_drawn_where_the_frame_says():
    image = Image.new("RGB", (168, 112))
    drawn = series.draw_boxes(image, [("red", [48, 32, 96, 64]), ("blue", [400, 300, 480, 320])])
    pixels = np.asarray(drawn)
    red = np.argwhere((pixels == (255, 0, 0)).all(-1))
    assert red.min(0).tolist() == [11, 17] and red.max(0).tolist() == [22, 34]  # 0.35 of 480 x 320
    assert len(red) == 2 * (12 + 18) - 4  # an outline of one pixel
    blue = np.argwhere((pixels == (0, 0, 255)).all(-1))
    assert blue.max(0).tolist() == [111, 167]  # the frame's last pixel, not one beyond
    assert not np.asarray(image).any()  # the image given is left alone
    wide = series.draw_boxes(Image.new("RGB", (480, 320)), [("red", [48, 32, 96, 64])])
    assert (np.asarray(wide)[40, 48:50] == (255, 0, 0)).all()


def test_depth_and_distance_have_their_boxes():
    for item in series.cvbench("test", 4)[2:]:
        seen = {tuple(pixel) for pixel in np.asarray(item.images[0]).reshape(-1, 3)}
        assert {(255, 0, 0), (0, 0, 255)} <= seen
        assert ((0, 128, 0) in seen) == (item.task == "Distance")
