"""Further worlds for the embedded model: their targets are true; the adapter holds what was learnt."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from random import Random

import networkx as nx
import numpy as np
import pytest
import torch
from commands import run_fresh
from peft import PeftModel
from transformers import PaliGemmaForConditionalGeneration

from pretrain import adapters, build, labels_world, rooms_world, worlds
from spatialvlm.errors import UserError
from spatialvlm.files.video import uniform
from spatialvlm.models import loading
from spatialvlm.models.loading import ModelArgs
from spatialvlm.tasks.vsi import questions as vsi_questions
from spatialvlm.worlds.rooms import render, rooms

WORLDS = {"rooms": rooms_world.WORLD, "labels": labels_world.WORLD}


@pytest.fixture(scope="module")
def items():
    return {
        name: [world.make("test", n) for n in range(6 if name == "rooms" else 40)]
        for name, world in WORLDS.items()
    }


def asked(world, listed, plan, each=40):
    """(item, question) of a plan."""
    rng = Random(0)
    found = [(item, world.plans[plan].ask(item, rng)) for item in listed for _ in range(each)]
    return [(item, question) for item, question in found if question]


@pytest.mark.parametrize("name", WORLDS)
def test_shapes_rows_and_names(items, name):
    world, processor = WORLDS[name], build.processor()
    for item in items[name]:
        assert item.images.shape == (world.frames, build.IMAGE_SIZE, build.IMAGE_SIZE, 3)
        assert item.kinds.shape == item.centres.shape == (world.frames, build.IMAGE_TOKENS)
        assert item.values.shape == (*item.kinds.shape, world.values) and np.isfinite(item.values).all()
        assert 0 < item.kinds.max() < world.kinds
    for plan, of in world.plans.items():
        fits = []
        for item, question in asked(world, items[name], plan):
            tokens = processor.tokenizer.tokenize(f"{question.prompt}\n{question.answer}")
            answer = processor.tokenizer.tokenize(question.answer)
            fits.append(len(tokens) < of.length and len(answer) < of.answer)
            again = processor.tokenizer.decode(processor.tokenizer.encode(question.answer))
            assert again == " ".join(question.answer.split())
            assert all(
                label in question.prompt and item.told[label].shape == (world.told,)
                for label in question.named
            )
        assert np.mean(fits) > 0.75  # few are too long to be asked


def test_a_room_is_told_as_it_is(items):
    """Against the renderer's image at another size, and the room's own boxes."""
    for number, item in enumerate(items["rooms"][:3]):
        room = rooms.make("test", rooms_world.SERIES, number)
        for frame, at in enumerate(uniform(len(room.path), rooms_world.FRAMES)):
            drawn = render.seen(room, room.path[at], 252, 252)
            for thing, label in enumerate(room.things):
                share = (drawn == thing).mean()
                if share > 0.02:
                    assert item.facts.seen[frame, thing]
                    rows, columns = np.nonzero(drawn == thing)
                    there = item.kinds[frame].reshape(9, 9)[
                        int(np.median(rows)) // 28, int(np.median(columns)) // 28
                    ]
                    assert there > 0, (label, frame)
                if share < 0.005:
                    assert not item.facts.seen[frame, thing]


def test_short_answers_about_rooms(items):
    sides = Counter()
    for item, question in asked(WORLDS["rooms"], items["rooms"], "short"):
        facts, names = item.facts, question.named
        boxes = [facts.annotation.objects[name][0] for name in names if name in facts.annotation.objects]
        if question.kind == "count":
            assert int(question.answer) == facts.labels.count(names[0])
        if question.kind == "exist":
            assert (question.answer == "yes") == (names[0] in facts.labels)
        if question.kind == "nearer":
            away = [np.linalg.norm(np.subtract(boxes[0].centroid, box.centroid)) for box in boxes[1:]]
            assert question.answer == names[1 + int(np.argmin(away))]
        if question.kind == "longer":
            assert question.answer == names[int(np.argmax([max(box.axes_lengths) for box in boxes]))]
        if question.kind == "lateral":
            frame = rooms_world.ORDINALS.index(re.search(r"the (\w+) image", question.prompt)[1])
            columns = [item.told[name][rooms_world.FRAMES + frame] for name in names]
            assert (question.answer == "left") == (columns[0] < columns[1])
            sides[question.answer] += 1
    assert min(sides["left"], sides["right"]) > 5


@pytest.mark.slow
def test_forms_answers_mean_nothing_and_have_their_form(items):
    """A number's answer is spread as drawn whatever the room is; a word's is among those that can be."""
    numbers = []
    for item, question in asked(WORLDS["rooms"], items["rooms"], "form", each=150):
        family = question.kind.removeprefix("form-")
        truth = {c.question: c for c in vsi_questions.candidates(item.facts.annotation)[family]}
        candidate = next(c for text, c in truth.items() if text in question.prompt)
        if family in vsi_questions.WORDS:
            assert re.fullmatch(r"[a-z-]+( [a-z]+)?", question.answer)
        else:
            decimals = "." in candidate.answer
            assert re.fullmatch(r"\d+\.\d" if decimals else r"\d+", question.answer)
        if family == "object_size_estimation":
            numbers.append((float(question.answer), float(candidate.answer)))
    said, true = np.array(numbers).T
    assert len(said) > 60 and abs(np.corrcoef(said, true)[0, 1]) < 0.35


def test_labels_are_told_as_they_are(items):
    kinds = Counter()
    for item, question in asked(WORLDS["labels"], items["labels"], "short"):
        points, names = item.facts.nodes.points, question.named
        kinds[question.kind, question.answer] += 1
        if question.kind == "lateral":
            assert (question.answer == "left") == (points[names[0]][0] < points[names[1]][0])
        if question.kind == "vertical":
            assert (question.answer == "above") == (points[names[0]][1] > points[names[1]][1])
        if question.kind == "exist":
            assert (question.answer == "yes") == (names[0] in points)
        if question.kind == "joined":
            assert (question.answer == "yes") == (frozenset(names) in item.facts.edges)
        if question.kind == "next":
            side = next(side for side in labels_world.SIDES if side in question.prompt)
            apart = np.subtract(points[question.answer], points[names[0]])
            assert {names[0], question.answer} in item.facts.edges
            assert np.dot(apart, labels_world.SIDES[side]) > 0.9 * np.linalg.norm(apart)
        if question.kind == "coloured":
            assert (
                question.answer
                == {"green": item.facts.start, "red": item.facts.end}[question.prompt.split()[-1][:-1]]
            )
    assert sum(count for (kind, _), count in kinds.items() if kind == "next") > 50
    for kind, answers in {
        "joined": ("yes", "no"),
        "lateral": ("left", "right"),
        "exist": ("yes", "no"),
    }.items():
        counts = [kinds[kind, answer] for answer in answers]
        assert min(counts) > 0.3 * sum(counts), (kind, counts)


def test_paths_are_ways_and_seldom_shortest(items):
    paths, shortest = 0, 0
    world, listed = WORLDS["labels"], items["labels"]
    for item, question in [*asked(world, listed, "form"), *asked(world, listed, "route")]:
        if question.kind == "form-path":
            graph = nx.Graph([tuple(edge) for edge in item.facts.edges])
            way = question.answer.split(" -> ")
            assert nx.is_simple_path(graph, way) and (way[0], way[-1]) == (item.facts.start, item.facts.end)
            paths += 1
            shortest += len(way) - 1 == nx.shortest_path_length(graph, way[0], way[-1])
        if question.kind == "form-tour":
            tour = question.answer.split(" -> ")
            assert tour[0] == tour[-1] and sorted(tour[1:]) == sorted(item.facts.nodes.labels)
    assert paths > 100 and shortest < 0.75 * paths


def test_an_adapter_is_what_was_trained(tmp_path):
    """`models.load` of the folder gives the parametrized weights, words among them."""
    processor = build.processor()
    model = PaliGemmaForConditionalGeneration.from_pretrained(loading.EMBEDDED, dtype=torch.float32)
    before = {
        name: module.weight.detach().clone()
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    adapters.attach(model, processor.image_token_id)
    torch.manual_seed(0)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert sum(parameter.numel() for parameter in trained) < 960_000
    with torch.no_grad():
        for parameter in trained:
            parameter.normal_(0, 0.05)
    adapters.save(model, loading.EMBEDDED, tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 2e6
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == ".."
    plain = PaliGemmaForConditionalGeneration.from_pretrained(loading.EMBEDDED, dtype=torch.float32)
    merged = PeftModel.from_pretrained(plain, str(tmp_path)).merge_and_unload()
    found, changed = dict(merged.named_modules()), 0
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            torch.testing.assert_close(found[name].weight, module.weight, atol=1e-3, rtol=1e-3)
            changed += (module.weight - before[name]).abs().max() > 0.01
    assert changed == len(before) - 1
    words = model.get_input_embeddings().weight
    torch.testing.assert_close(merged.get_input_embeddings().weight, words, atol=2e-3, rtol=1e-3)
    assert merged.lm_head.weight.data_ptr() == merged.get_input_embeddings().weight.data_ptr()


@pytest.mark.parametrize("folder", [loading.ROOMS, loading.LABELS], ids=["rooms", "labels"])
def test_the_repositorys_adapters_are_merged_on_load(folder):
    model, _ = loading.load(ModelArgs(profile="embedded", model=str(folder)))
    assert type(model) is PaliGemmaForConditionalGeneration and model.name_or_path == str(folder)
    base, _ = loading.load(ModelArgs(profile="embedded"))
    names = dict(base.named_parameters())
    same = [torch.equal(parameter, names[name]) for name, parameter in model.named_parameters()]
    assert sum(same) < 0.6 * len(same)


def test_an_adapter_in_four_bits_or_without_its_base(tmp_path):
    with pytest.raises(UserError, match="load_in_4bit"):
        loading.load(ModelArgs(profile="embedded", model=str(loading.ROOMS), load_in_4bit=True))
    adapter = tmp_path / "adapter"
    shutil.copytree(loading.ROOMS, adapter)
    record = json.loads((adapter / "adapter_config.json").read_text())
    record["base_model_name_or_path"] = "./gone"
    (adapter / "adapter_config.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="no such folder"):
        loading.load(ModelArgs(profile="embedded", model=str(adapter)))


@pytest.mark.slow
def test_the_script_learns(tmp_path):
    """A step of each stage."""
    flags = (
        "--world labels --compile false --items 128 --validation_items 128 --tower_steps 1 --language_steps 1"
    )
    flags += " --card_questions 2 --work_dir work --output_dir out"
    run_fresh("pretrain.world_adapter", *flags.split(), folder=tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "out/curve.jsonl").read_text().splitlines()]
    assert {row["stage"] for row in rows} == {"tower", "language"} and "lateral-shuffled" in rows[-1]
    assert "| lateral | 2 |" in (tmp_path / "out/README.md").read_text()
    questions = asked(WORLDS["labels"], [WORLDS["labels"].make("test", 0)], "form")
    assert max(len(question.named) for _, question in questions) <= worlds.MENTIONS
