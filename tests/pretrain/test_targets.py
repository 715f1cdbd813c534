"""Dense targets and their loss: each patch and each mention answers for its own thing, and for no other."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from pretrain import language, targets, vision, worlds
from pretrain.targets import GROUPS, MOST, PATCHES, ROWS, VALUES, WORDS

CENTRE = len(WORDS)  # where a row says whether a thing's middle is there
FIRST = {group: sum(map(len, [*GROUPS.values()][:k])) for k, group in enumerate(GROUPS)}


def things(*rows: dict[str, int | float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes and values of an image's things; what is not given is not known."""
    classes, values = torch.full((1, MOST, len(GROUPS)), -1), torch.full((1, MOST, len(VALUES)), math.nan)
    for number, row in enumerate(rows):
        for k, group in enumerate(GROUPS):
            classes[0, number, k] = row.get(group, -1)
        for k, name in enumerate(VALUES):
            values[0, number, k] = row.get(name, math.nan)
    return classes, values


def saying(classes: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Rows that answer right and surely; anything where nothing is known."""
    said = torch.randn(len(classes), ROWS) * 3
    for k, (group, words) in enumerate(GROUPS.items()):
        part = said[:, FIRST[group] : FIRST[group] + len(words)]
        known = classes[:, k] >= 0
        part[known] = 30 * torch.eye(len(words))[classes[known, k]]
    numbers = said[:, CENTRE + 1 : -1]
    return torch.cat([said[:, : CENTRE + 1], torch.where(values.isnan(), numbers, values), said[:, -1:]], 1)


# ---- patches


def test_patches_answer_for_the_thing_on_them():
    classes, values = things(
        {"shape": 2, "color": 3, "column": 0.0, "row": 0.0, "distance": 0.5},
        {"shape": 4, "label": 5, "column": -2.0 + 4 * 8.25 / 9, "row": -2.0 + 4 * 0.5 / 9, "right": 1.0},
    )
    owners = torch.full((1, PATCHES**2), -1)
    owners[0, 4 * 9 + 4] = owners[0, 4 * 9 + 3] = 0
    owners[0, 7] = 1
    of, centres, found = targets.of_patches(owners, classes, values)
    assert of[0, 40].tolist() == [2, 3, -1, -1, -1] and of[0, 7].tolist() == [4, -1, -1, -1, 5]
    rest = [patch for patch in range(81) if patch not in (39, 40, 7)]
    assert (of[0, rest] == torch.tensor([0, -1, -1, -1, -1])).all() and found[0, rest].isnan().all()
    assert centres[0].nonzero().flatten().tolist() == [8, 40]  # also where a thing owns no patch
    column, row, distance, right = (VALUES.index(name) for name in ("column", "row", "distance", "right"))
    assert found[0, 40, [column, row]].tolist() == pytest.approx([0, 0], abs=1e-5)
    assert found[0, 39, [column, row]].tolist() == pytest.approx([1, 0], abs=1e-5)  # to the right, in patches
    assert found[0, 7, [column, row]].tolist() == pytest.approx([0.75, 0], abs=1e-5)
    assert found[0, 40, distance] == 0.5 and found[0, 40, right].isnan() and found[0, 7, right] == 1


def test_images_of_a_batch_do_not_mix():
    one = things({"shape": 1, "column": -1.9, "row": 1.9})
    other = things({"shape": 3, "column": 1.9, "row": -1.9}, {"shape": 2, "column": 0.0, "row": 0.0})
    owners = torch.randint(-1, 1, (2, 81))
    together = targets.of_patches(owners, *(torch.cat(parts) for parts in zip(one, other, strict=True)))
    for number, alone in enumerate((one, other)):
        parts = targets.of_patches(owners[number : number + 1], *alone)
        for found, wanted in zip(together, parts, strict=True):
            torch.testing.assert_close(found[number : number + 1], wanted, equal_nan=True)
    assert together[1].sum(1).tolist() == [1, 2]


# ---- the loss


def known_columns(said: torch.Tensor, *gold: torch.Tensor | None) -> list[int]:
    """Which parts of a row the loss looks at."""
    said = said.clone().requires_grad_()
    targets.loss(said, *gold).backward()
    assert said.grad.isfinite().all()
    return said.grad.abs().sum(0).nonzero().flatten().tolist()


def test_what_is_not_known_is_not_asked():
    said = torch.randn(3, ROWS)
    classes, values = torch.full((3, len(GROUPS)), -1), torch.full((3, len(VALUES)), math.nan)
    assert targets.loss(said, classes, values) == 0 and not known_columns(said, classes, values)
    some = classes.clone()
    some[1, 1] = 2
    start = FIRST["color"]
    assert known_columns(said, some, values) == [*range(start, start + len(GROUPS["color"]))]
    there = values.clone()
    there[2, VALUES.index("above")] = 0.4
    assert known_columns(said, classes, there) == [CENTRE + 1 + VALUES.index("above")]
    one = said.clone().requires_grad_()
    targets.loss(one, some, there).backward()
    assert one.grad.abs().sum(1).nonzero().flatten().tolist() == [1, 2]  # rows of which something is known
    shape = classes.clone()
    shape[0, 0] = 2
    assert known_columns(said, shape, values) == [*range(1, len(GROUPS["shape"]))]
    patches = known_columns(said, classes, values, torch.zeros(3), torch.full((3,), math.nan))
    assert patches == [*range(len(GROUPS["shape"])), CENTRE]
    floor = known_columns(said, classes, values, torch.zeros(3), torch.tensor([math.nan, 1, math.nan]))
    assert floor == [*patches, ROWS - 1]


def test_right_rows_cost_nothing_and_are_counted_right():
    torch.manual_seed(0)
    classes = torch.stack([torch.randint(-1, len(words), (50,)) for words in GROUPS.values()], 1)
    classes[:, 0] = torch.randint(0, len(GROUPS["shape"]), (50,))
    values = torch.randn(50, len(VALUES))
    values[torch.rand(50, len(VALUES)) < 0.3] = math.nan
    centres, floor = (torch.rand(50) < 0.5).float(), torch.rand(50)
    said = saying(classes, values)
    said[:, CENTRE], said[:, -1] = 40 * centres - 20, floor
    assert targets.loss(said, classes, values, centres, floor) < 1e-4
    scores = targets.accuracy(said, classes, values, centres)
    assert all(scores[name] == 1 for name in (*GROUPS, "centre_f1"))
    assert all(scores[f"{name}_error"] < 1e-6 for name in VALUES)

    for change in (0, FIRST["label"], CENTRE, CENTRE + 3, ROWS - 1):
        wrong = said.clone()
        wrong[:, change] += 60
        assert targets.loss(wrong, classes, values, centres, floor) > 1, change
    wrong = said.clone()
    wrong[:, FIRST["size"]] += 60  # says the first of two sizes everywhere
    wrong[:, CENTRE + 1 + VALUES.index("x")] += 0.25
    found = targets.accuracy(wrong, classes, values, centres)
    sizes = classes[:, 2][classes[:, 2] >= 0]
    assert found["size"] == pytest.approx((sizes == 0).float().mean().item())
    assert found["x_error"] == pytest.approx(0.25, abs=1e-4)
    assert {name for name in scores if found[name] != scores[name]} == {"size", "x_error"}


def test_mentions_answer_for_their_things():
    """Two questions about each of two items; the rows of nothing say anything."""
    torch.manual_seed(1)
    classes, values = (torch.cat(parts) for parts in zip(
        things({"shape": 1, "color": 0, "x": 1.0}, {"shape": 3, "size": 1, "y": -1.0}),
        things(),
        things({"shape": 2, "material": 0, "distance": 0.3}, {"shape": 4, "label": 7, "left": -1.0}),
        strict=True,
    ))  # fmt: skip
    corpus = SimpleNamespace(classes=classes.to(torch.int8), values=values.half())
    mentioned = torch.full((2, 2, worlds.MENTIONS), -1, dtype=torch.int8)
    mentioned[0, 0, :3], mentioned[0, 1, 0], mentioned[1, 1, 1] = torch.tensor([1, 0, 1]), 0, 1
    chosen = torch.full_like(mentioned, -1)
    chosen[0, 0, :3] = torch.tensor([1, 0, 1])
    told = torch.full((*mentioned.shape, len(worlds.TOLD)), math.nan)
    told[0, 0, 1, 0], told[1, 0, 0, 3] = 2.0, 5.0  # the last of something that is no thing
    quiz = SimpleNamespace(items=torch.tensor([2, 0]), things=mentioned, chosen=chosen, told=told.half())
    lesson = language.Lesson(quiz, corpus, None, 3)

    index = torch.tensor([1, 0])
    looks = torch.randn(2, 2, worlds.MENTIONS, ROWS) * 3
    for row, item in enumerate(quiz.items[index]):
        for at in (mentioned[index[row]] >= 0).nonzero().tolist():
            thing = mentioned[index[row]][*at].long()
            looks[row, *at] = saying(classes[item, thing][None], values[item, thing][None])[0]
    chooses = torch.randn(2, 2, worlds.MENTIONS, 1 + len(worlds.TOLD))
    chooses[1, 0, :3, 0] = torch.tensor([20.0, -20.0, 20.0])
    chooses[1, 0, 1, 1], chooses[0, 0, 0, 4] = 2.0 / 2.5, 5.0 / 2.5
    assert lesson.dense(looks, chooses, index) < 1e-3
    for place in ((1, 0, 0, 0), (1, 0, 1, 1), (0, 0, 0, 4)):
        wrong = chooses.clone()
        wrong[place] -= 30
        assert lesson.dense(looks, wrong, index) > 1, place
    assert lesson.dense(looks.flip(0), chooses, index) > 1
    assert lesson.dense(looks, chooses, index.flip(0)) > 1


# ---- what is drawn into images


def test_boxes_are_drawn_around_things_of_every_third_scene():
    thing = {"bbox": [100, 60, 242, 180]}
    images = torch.full((5, 126, 126, 3), 90, dtype=torch.uint8)
    facts = [{"objects": [thing] * 2}] * 3 + [{"nodes": {}}] * 2
    boxed = vision.draw_boxes(images, facts, torch.Generator().manual_seed(0))
    assert (images == 90).all() and (boxed[1:] == 90).all()
    left, right, top, bottom = 26, 63, 23, 70
    changed = (boxed[0] != 90).any(-1).nonzero()
    assert changed.min(0).values.tolist() == [top, left] and changed.max(0).values.tolist() == [bottom, right]
    assert boxed[0, top, left:right].tolist() == [[0, 0, 255]] * 37  # the second box, on the first
    assert len(changed) == 2 * (right - left + bottom - top)
