"""Where the model looks: whole weights, masks that are the renderer's, a study that finds a planted aim."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from spatialvlm.errors import UserError
from spatialvlm.models import rollout
from spatialvlm.reporting import attention
from spatialvlm.tasks.clevr.data import with_vocabulary
from spatialvlm.worlds.clevr import scenes, series


@pytest.fixture(scope="module")
def examples():
    return list(with_vocabulary(series.free("test", 6, 0, kinds=("count",))))


@pytest.fixture(scope="module")
def batch(tiny_paligemma, examples):
    _, processor = tiny_paligemma
    return rollout.encode(processor, [e.prompt for e in examples], [e.images for e in examples])


METHODS = [("mean", ()), ("mean", (0,)), ("rollout", ())]


@pytest.mark.parametrize("method, layers", METHODS)
def test_weights_sum_to_one_and_padding_gets_none(tiny_paligemma, batch, method, layers):
    model, processor = tiny_paligemma
    weights = attention.answer_attention(model, batch, layers, method)
    assert weights.shape == batch.input_ids.shape and bool((weights >= 0).all())
    assert torch.allclose(weights.sum(1), torch.ones(len(weights)), atol=1e-5)
    padding = batch.attention_mask == 0
    assert bool(padding.any()) and float(weights[padding].abs().max()) < 1e-9
    grid, share = attention.on_image(weights, batch, processor.image_token_id)
    assert grid.shape == (len(weights), 2, 2)
    assert torch.allclose(grid.sum((1, 2)), torch.ones(len(grid)), atol=1e-5)
    assert bool(((share > 0) & (share < 1)).all())


@pytest.mark.parametrize("method, layers", METHODS)
def test_a_row_alone_has_the_weights_that_it_has_among_others(tiny_paligemma, batch, method, layers):
    model, _ = tiny_paligemma
    together = attention.answer_attention(model, batch, layers, method)
    for row in range(2):
        alone = attention.answer_attention(model, batch.select([row]), layers, method)[0]
        assert torch.allclose(together[row, -len(alone) :], alone, atol=1e-5)


def test_a_patch_that_is_blotted_out_changes_where_the_model_looks(tiny_paligemma, batch):
    model, _ = tiny_paligemma
    pixels = batch.pixel_values.clone()
    pixels[:, :, :14, :14] = 0
    before, after = (
        attention.answer_attention(model, part) for part in (batch, replace(batch, pixel_values=pixels))
    )
    assert float((before - after).abs().max()) > 1e-6


def test_rollout_is_the_product_of_the_layers(tiny_paligemma, batch):
    model, _ = tiny_paligemma
    one = batch.select([0])
    found = attention.answer_attention(model, one, method="rollout")[0]
    layers = model(
        input_ids=one.input_ids,
        pixel_values=one.pixel_values,
        token_type_ids=torch.zeros_like(one.input_ids),
        attention_mask=one.attention_mask,
        output_attentions=True,
    ).attentions
    product = torch.eye(one.input_ids.shape[1])
    for layer in layers:
        product = (0.5 * layer[0].mean(0) + 0.5 * torch.eye(len(product))) @ product
    assert torch.allclose(found, product[-1], atol=1e-5)


def test_layers_that_are_not_there_are_refused(tiny_paligemma, batch):
    with pytest.raises(UserError, match="--layers 99"):
        attention.answer_attention(tiny_paligemma[0], batch, layers=[99])
    with pytest.raises(UserError, match="leave out --layers"):
        attention.Args(method="rollout", layers=[0])
    with pytest.raises(UserError, match="at least 1"):
        attention.Args(limit=0)


# ---- masks


def test_masks_are_the_renderers_pixels(examples):
    side = 4
    for example in examples[:3]:
        scene = scenes.make(*example.meta["scene"])
        drawn = scenes.render_scene(scene, side * attention.FINE, side * attention.FINE, samples=1).objects
        every = range(len(scene["objects"]))
        for objects in ([], [0], [*every]):
            assert np.array_equal(attention.mask(scene, objects, side), np.isin(drawn, objects))
        shares = attention.coverage(attention.mask(scene, every, side))
        assert shares.shape == (side, side) and shares.mean() == pytest.approx((drawn >= 0).mean())
        corner = drawn[: attention.FINE, -attention.FINE :] >= 0
        assert shares[0, -1] == pytest.approx(corner.mean())


def test_the_objects_counted_are_those_of_the_answer(examples):
    for example in series.free("test", 12, 1, kinds=("count",)):
        scene = scenes.make(*example.meta["scene"])
        objects = attention.counted(scene, example.question, example.answer)
        assert len(objects) == int(example.answer)
        words = example.question.removeprefix("How many ").removesuffix(" are there?").split()
        named = {word.removesuffix("s") for word in words} - {"thing"}
        for index, thing in enumerate(scene["objects"]):
            assert (index in objects) == (named <= {str(value) for value in thing.values()})
    scene = scenes.make(*examples[0].meta["scene"])
    with pytest.raises(ValueError, match="does not ask"):
        attention.counted(scene, "Is there a cube?", "yes")
    with pytest.raises(ValueError, match="counts"):
        attention.counted(scene, "How many things are there?", "99")


# ---- the study


def rows(aim: float, n: int = 60) -> list[dict]:
    """Questions whose right answers look at the objects by `aim` more than chance would."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(n):
        said = number % 3  # right, off by one, off by more
        area = 0.1 + 0.1 * rng.random()
        made.append(
            {
                "gold": 1 + number % 2,
                "outcome": attention.OUTCOMES[said],
                "area": area,
                "attention": area + 0.01 * rng.standard_normal() + (aim if said == 0 else 0),
                "attention_of_objects": 0.5 + (aim if said == 0 else 0),
                "area_of_objects": 0.5,
                "image": 0.5,
            }
        )
    nothing = dict.fromkeys(("area", "attention", "attention_of_objects", "area_of_objects"), 0.0)
    return [*made, {"gold": 0, "outcome": "right", "image": 0.5, **nothing}]


def test_the_study_finds_an_aim_that_is_there_and_none_where_none_is():
    found = attention.study(rows(aim=0.2))
    assert found["questions"] == 61 and found["left_out_with_count_0"] == 1
    assert {name: part["n"] for name, part in found["outcomes"].items()} == {
        "all": 60,
        "right": 20,
        "off by one": 20,
        "off by more": 20,
        "wrong": 40,
    }
    assert found["right - wrong"]["value"] == pytest.approx(0.2, abs=0.02)
    assert found["right - wrong"]["interval"][0] > 0.15
    assert found["outcomes"]["right"]["of objects: attention - area"]["value"] == pytest.approx(0.2)
    low, high = found["outcomes"]["wrong"]["attention - area"]["interval"]
    assert low < 0 < high
    low, high = attention.study(rows(aim=0))["right - wrong"]["interval"]
    assert low < 0 < high
    assert "right - wrong, at the same count: +2" in attention.table(found)


def test_no_comparison_where_answers_are_all_right():
    alike = [row | {"outcome": "right"} for row in rows(0.1)]
    found = attention.study(alike)
    assert found["right - wrong"] is None and "right - wrong" not in attention.table(found)


@pytest.mark.parametrize(
    "said, gold, name",
    [(2, 2, "right"), (1, 2, "off by one"), (3, 2, "off by one"), (5, 2, "off by more"), (None, 2, "unread")],
)
def test_outcomes(said, gold, name):
    assert attention.outcome(said, gold) == name


def test_an_overlay_is_brightest_where_the_attention_lies():
    image = Image.new("RGB", (60, 40), (90, 90, 90))
    grid = np.zeros((4, 4))
    grid[0, 0] = 1
    covered = np.zeros((56, 56), bool)
    covered[28:, 28:] = True
    drawn = np.asarray(attention.overlay(image, grid, covered)).astype(int)
    assert drawn.shape == (120, 360, 3)
    over = drawn[:, 180:]
    assert over[10, 10].sum() > over[100, 20].sum() + 200
    assert (over[60:, 90:] == (102, 255, 255)).all(-1).any() and not (over[:50] == (102, 255, 255)).all(
        -1
    ).any()


def test_observed_fractions_are_valid_and_do_not_depend_on_the_batch_size(tiny_paligemma, examples):
    model, processor = tiny_paligemma
    observations = attention.observe(model, processor, examples, attention.Args(limit=6, batch_size=4))
    assert [each.row["id"] for each in observations] == [example.id for example in examples]
    for each in observations:
        row = each.row
        assert 0 <= row["attention"] <= 1 and 0 <= row["area"] < 1
        assert each.grid.sum() == pytest.approx(1, abs=1e-5) and each.covered.shape == (28, 28)
        assert row["area"] <= row["area_of_objects"] <= 1
        assert row["attention"] <= row["attention_of_objects"] <= 1
        assert (row["area"] > 0) == (row["gold"] > 0) == bool(each.covered.any())
    assert json.dumps([each.row for each in observations])
    single = attention.observe(model, processor, examples, attention.Args(limit=6, batch_size=1))
    for one, other in zip(observations, single, strict=True):
        assert one.row["attention"] == pytest.approx(other.row["attention"], abs=1e-5)
