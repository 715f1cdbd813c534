"""Strategies through a model of this process; worked examples, depth maps and two views of scenes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tiny
import tiny_chat
import torch

from spatialvlm.errors import UserError
from spatialvlm.evaluation.evaluate import predict
from spatialvlm.example import Example
from spatialvlm.models import qwen, rollout
from spatialvlm.prompting import exemplars, local, study
from spatialvlm.prompting.local import LocalClient
from spatialvlm.prompting.strategies import STRATEGIES
from spatialvlm.prompting.strategy import Aids, Dialogue, Outcome, assistant, user
from spatialvlm.tasks.clevr.data import with_vocabulary
from spatialvlm.tasks.cvbench import data as cvbench
from spatialvlm.worlds.clevr import series
from spatialvlm.worlds.clevr.two_views import two_views


@pytest.fixture(scope="module")
def questions():
    return list(series.cvbench("test", 3))


# ---- local models


def test_direct_answers_as_the_evaluation_does(embedded, questions, hold):
    client = LocalClient(*embedded, max_new_tokens=8, batch_size=2)
    found = hold(client, STRATEGIES["direct"], questions)
    records = predict(*embedded, questions, max_new_tokens=8)
    assert [found[each.id].outcome.text for each in questions] == [each["completions"][0] for each in records]


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_runs_on_the_embedded_model(name, embedded, questions, hold, aids):
    strategy = STRATEGIES[name]
    examples = list(two_views("test", 2)) if strategy.images == 2 else questions[:2]
    client = LocalClient(*embedded, max_new_tokens=4)
    found = hold(client, strategy, examples)
    assert set(found) == {each.id for each in examples}
    queries = 1 if name in ("direct", "think") else 2
    for talk in found.values():
        assert len(talk.replies) == queries
        assert all(reply.finish in ("stop", "length") for reply in talk.replies)
        assert all(0 < reply.completion_tokens <= 4 < reply.prompt_tokens for reply in talk.replies)
    shown = {image.tobytes() for each in examples for image in each.open_images()}
    shown |= {image.tobytes() for each in aids(strategy).exemplars for image in each.example.open_images()}
    depth = len(examples) if strategy.depth else 0
    assert client.facts() == {"pictures_encoded": len(shown) + depth}  # once each, for both queries


def test_answers_do_not_depend_on_the_batch_size(embedded, questions, hold):
    found = [
        hold(LocalClient(*embedded, max_new_tokens=6, batch_size=size), STRATEGIES["scene_graph"], questions)
        for size in (1, 3)
    ]
    texts = [{id: [reply.text for reply in talk.replies] for id, talk in each.items()} for each in found]
    assert texts[0] == texts[1]


def test_a_query_beyond_the_models_window_is_refused(embedded, questions, hold):
    strategy = STRATEGIES["kshot_split"]
    given = Aids(exemplars.embedded("cvbench", 8))
    with pytest.raises(UserError, match="room for 1,024: use fewer --shots"):
        hold(LocalClient(*embedded, max_new_tokens=4), strategy, questions[:1], given)


def test_a_query_that_is_too_long_among_others_is_counted_and_changes_no_other(embedded, questions):
    image = questions[0].images[0]
    fits, beyond = [user(image, "how many?")], [user(image, "how many? " * 400)]
    client = LocalClient(*embedded, max_new_tokens=4)
    alone = client.reply([fits])[0]
    one, none, again = client.reply([fits, beyond, fits])
    assert one == again == alone and (none.text, none.finish) == ("", "too long")
    assert none.prompt_tokens > 1024 - 4 and none.completion_tokens == 0
    counted = study.dialogue_entries(STRATEGIES["direct"], Dialogue(Outcome(none.text, {}), (none,)))
    found = study.counts(STRATEGIES["direct"], 0, [counted])
    assert found["too_long"] == 1 and "too long for the context: 1 queries" in study.counts_text(found)


def test_conversations_that_memory_does_not_hold_together_are_halved(
    embedded, questions, monkeypatch, capsys
):
    queries = [[user(*question.images, question.prompt)] for question in questions[:3]]
    together, sample = LocalClient(*embedded, max_new_tokens=4).reply(queries), rollout.sample

    def full(model, batch, *arguments, **options):
        if len(batch.input_ids) > most:
            raise torch.OutOfMemoryError
        return sample(model, batch, *arguments, **options)

    monkeypatch.setattr(rollout, "sample", full)
    most = 2
    assert LocalClient(*embedded, max_new_tokens=4).reply(queries) == together
    assert "--concurrency 1 avoids it" in capsys.readouterr().err
    most = 0
    with pytest.raises(UserError, match="one conversation at a time; use --load_in_4bit, fewer --shots"):
        LocalClient(*embedded, max_new_tokens=4).reply(queries)


def test_turns_are_flattened_for_models_without_any():
    image = tiny.image(0)
    assert local.flatten([user(image, "how many?")]) == "how many?"
    turns = [user(image, "where?"), assistant("left"), user("and", image, "here?")]
    assert local.flatten(turns) == "User: where?\nAssistant: left\nUser: and\nhere?\nAssistant:"


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl"])
def test_qwen_gets_turns_by_its_template(kind, tmp_path):
    model, processor = tiny_chat.load(tiny_chat.save_model(tmp_path, kind))
    one, two = tiny.image(0), tiny.image(1, 50, 20)
    turns = [user(one, "is the cube left"), assistant("yes"), user("how many", two, "red cubes")]
    batch = local.encode_chat(processor, [turns, [user(two, "what is left")]], [[one, two], [two]])
    texts = processor.tokenizer.convert_ids_to_tokens(batch.input_ids[0][batch.attention_mask[0].bool()])
    assert texts.count("<|im_start|>") == 4 and texts.count("<|im_end|>") == 3  # the fourth is the reply's
    marks = [texts.index(token) for token in ("<|image_pad|>", "cube", "yes", "how")]
    last = {token: len(texts) - 1 - texts[::-1].index(token) for token in ("<|image_pad|>", "<|im_start|>")}
    marks += [last["<|image_pad|>"], texts.index("red"), last["<|im_start|>"]]
    assert marks == sorted(marks)
    tokens = [qwen.tokens_of(visual, batch.merge_size) for visual in batch.visuals[0]]
    assert texts.count("<|image_pad|>") == sum(tokens)
    alone = local.encode_chat(processor, [[user(two, "what is left")]], [[two]])
    plain = qwen.encode(processor, ["what is left"], [[two]])
    assert alone.input_ids.tolist() == plain.input_ids.tolist()
    client = LocalClient(model, processor, max_new_tokens=4)
    together = client.reply([turns, [user(two, "what is left")]])
    assert client.facts() == {"pictures_encoded": 2}
    fresh = [
        LocalClient(model, processor, 4).reply([each])[0] for each in (turns, [user(two, "what is left")])
    ]
    assert [each.text for each in together] == [each.text for each in fresh]


# ---- worked examples


@pytest.mark.parametrize("benchmark", study.HUB_IDS)
def test_examples_are_of_a_split_that_is_never_tested_on(benchmark):
    shown = exemplars.embedded(benchmark, 3)
    examples, _ = study.load(benchmark, STRATEGIES["scene_graph"], "embedded", limit=6)
    ids = {each.example.id for each in shown}
    assert len(ids) == 3 and not ids & {each.id for each in examples}
    assert not ids & {each.meta.get("cluster") for each in examples}
    apart = exemplars.Overlap(shown)
    for example in examples[:3]:
        apart.check(example)


def test_a_tested_question_among_the_examples_is_refused(questions):
    shown = exemplars.embedded("cvbench", 1)
    apart = exemplars.Overlap(shown)
    with pytest.raises(UserError, match="is one of the examples"):
        apart.check(shown[0].example)
    with pytest.raises(UserError, match="is one of the examples"):
        apart.check(replace(questions[0], meta={"cluster": shown[0].example.id}))
    with pytest.raises(UserError, match=f"{questions[0].id}' has an image of one of the examples"):
        apart.check(replace(questions[0], images=shown[0].example.images))


def test_graphs_of_examples_are_what_their_scenes_are():
    """In relations along the image, the object left of the other has the smaller column."""
    checked = 0
    for number in range(12):
        example = series.cvbench("train", 12)[number]
        found = exemplars.scene_graph(example)
        scene = exemplars.scene_of(example)
        things = {f"o{at + 1}": thing for at, thing in enumerate(scene["objects"])}
        for each in found["objects"]:
            thing = things[each["id"]]
            assert each["name"] == thing["shape"] and thing["color"] in each["attributes"]
            column, row, _ = thing["pixel_coords"]
            assert each["center"] == [round(column / 480, 2), round(row / 320, 2)]
        if example.task == "Count":
            assert len(found["objects"]) == int(example.choices["ABCDEF".index(example.answer[1])])
        for one, words, other in found["relations"]:
            side = {"left of": "left", "in front of": "front"}[words]
            along = np.subtract(things[one]["3d_coords"], things[other]["3d_coords"])
            assert along @ np.array(scene["directions"][side]) > 0.2
            checked += 1
    assert checked > 3


def worked(folder, **changed) -> str:
    row = {"id": "w1", "image": "w.png", "prompt": "How many?", "answer": "2", "graph": {"objects": []}}
    tiny.image(5).save(folder / "w.png")
    rows = [row | {"id": "w0"}, {name: value for name, value in (row | changed).items() if value is not None}]
    path = folder / "worked.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return str(path)


def test_examples_from_a_file(tmp_path):
    found = exemplars.from_file(worked(tmp_path), 2)
    assert [each.example.id for each in found] == ["w0", "w1"]
    assert found[1].example.prompt == "How many?" and found[1].graph == '{"objects": []}'


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"id": "w0"}, "two rows have the id 'w0'"),
        ({"graph": None}, "has no 'graph'"),
        ({"graph": "{'a'"}, "'graph' is no JSON"),
        ({"answer": " "}, "'answer'"),
        ({"prompt": 7}, "'prompt' must be a text"),
        ({"image": "gone.png"}, "gone.png does not exist"),
        ({"image": None}, "has no 'image'"),
    ],
    ids=["twin", "no graph", "broken graph", "empty answer", "number", "no file", "no image"],
)
def test_a_bad_example_is_named(changed, message, tmp_path):
    with pytest.raises(UserError, match=message):
        exemplars.from_file(worked(tmp_path, **changed), 2)


def test_examples_have_as_many_images_as_the_strategy_takes(tmp_path):
    with pytest.raises(UserError, match=r"has 1 image\(s\), and 2 are needed"):
        exemplars.from_file(worked(tmp_path), 2, STRATEGIES["optical_flow"].images)


def test_too_few_examples(tmp_path):
    with pytest.raises(UserError, match="has 2 rows, --shots 3 needs as many"):
        exemplars.from_file(worked(tmp_path), 3)


# ---- depth maps and two views


def test_the_nearest_thing_is_the_brightest(questions):
    grey = np.array(exemplars.rendered_depth(questions[2]))[..., 0].astype(int)
    assert (grey.min(), grey.max()) == (0, 255)
    # The ground in the lowest row is nearer than in the highest.
    assert grey[-1].mean() > grey[0].mean() + 50


def test_depth_maps_from_a_folder(questions, tmp_path):
    given = exemplars.depth_maps(tmp_path)
    with pytest.raises(UserError, match=f"{questions[0].id}.png does not exist"):
        given(questions[0])
    tiny.image(3).save(tmp_path / f"{questions[0].id}.png")
    assert given(questions[0]).tobytes() == tiny.image(3).tobytes()
    turned = replace(questions[0], id=f"{questions[0].id}/1", meta={"cluster": questions[0].id})
    assert given(turned).tobytes() == tiny.image(3).tobytes()
    with pytest.raises(UserError, match="no such folder"):
        exemplars.depth_maps(tmp_path / "gone")


def test_a_photograph_has_no_rendered_depth_map():
    photograph = Example("p", (tiny.image(0),), "How many?", "2", "Count")
    with pytest.raises(UserError, match="give its depth map with --depth"):
        exemplars.rendered_depth(photograph)


def test_two_views_shift_as_the_camera_moves():
    """Seen from farther right, things behind the middle of the scene lie farther right than before."""
    for example in two_views("test", 4):
        assert len(example.images) == 2 and example.images[0].tobytes() != example.images[1].tobytes()
        objects = exemplars.scene_of(example)["objects"]
        assert len(example.meta["shifts"]) == len(objects)
        behind = np.array(exemplars.scene_of(example)["directions"]["behind"])
        depth = np.array([thing["3d_coords"] @ behind for thing in map(_as_array, objects)])
        sign = 1 if example.answer == "right" else -1
        for at, shift in zip(depth, example.meta["shifts"], strict=True):
            if abs(at) > 1.5:
                assert shift in (0, sign * np.sign(at))
    answers = [example.answer for example in two_views("test", 12)]
    assert {"left", "right"} == set(answers)


def _as_array(thing: dict) -> dict:
    return {"3d_coords": np.array(thing["3d_coords"])}


def test_two_views_of_other_splits_are_other_scenes():
    ids = [each.id for split in ("train", "test") for each in two_views(split, 2)]
    assert len(set(ids)) == 4
    with pytest.raises(UserError, match="has the splits"):
        two_views("val", 2)


# ---- questions by benchmark


def test_questions_of_another_number_of_images_are_left_out(questions, tmp_path, monkeypatch, capsys):
    two = replace(questions[0], id="two", images=questions[0].images * 2)
    monkeypatch.setattr(cvbench, "load", lambda **_: [*questions, two])
    found, _ = study.load("cvbench", STRATEGIES["optical_flow"], "rows.parquet")
    assert [each.id for each in found] == ["two"]
    assert "left out: 3 questions" in capsys.readouterr().out
    monkeypatch.setattr(cvbench, "load", lambda **_: questions)
    with pytest.raises(UserError, match="takes questions about 2 image"):
        study.load("cvbench", STRATEGIES["optical_flow"], "rows.parquet")


def test_clevr_questions_come_with_their_vocabulary():
    found, benchmark = study.load("clevr", STRATEGIES["describe"], "embedded", limit=2)
    assert [each.meta["vocabulary"] for each in found] == [
        each.meta["vocabulary"] for each in with_vocabulary(series.clevr("test", 2))
    ]
    assert benchmark.title == "CLEVR"
