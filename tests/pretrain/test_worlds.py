"""Items and questions of both worlds: rows fit, names are those of things, what is noted of them is true."""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from random import Random

import numpy as np
import pytest
import torch

from pretrain import build, nodes_world, scenes_world, worlds
from pretrain.worlds import MENTIONS, TOLD, Asked, Plan, Quiz
from spatialvlm.worlds.clevr.facts import VALUES as ATTRIBUTES

WORLDS = {world.name: world for world in (scenes_world.WORLD, nodes_world.WORLD)}
PLANS = [(name, plan) for name, world in WORLDS.items() for plan in world.plans]
COUNTS = {"scenes": 30, "nodes": 40}
ADJECTIVES = {word for name in ("size", "color", "material") for word in ATTRIBUTES[name]}
NOUNS = {noun + ending for noun in (*ATTRIBUTES["shape"], "thing") for ending in ("", "s")}


@lru_cache
def items(name: str) -> list[worlds.Facts]:
    """Some items, as they come back from disk."""
    return [json.loads(json.dumps(WORLDS[name].make("worlds", n))) for n in range(COUNTS[name])]


@pytest.fixture(scope="module")
def processor():
    return build.processor()


@pytest.fixture(scope="module")
def quiz(processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quiz")

    @lru_cache
    def of(name: str, plan: str) -> Quiz:
        return worlds.ask(folder / name / plan, items(name), processor, WORLDS[name].plans[plan], "rows")

    return of


def rows(quiz: Quiz, processor):
    """(item's number, kind, the prompt's tokens as text, the answer's, the row's places in the quiz)."""
    for i, item in enumerate(quiz.items.tolist()):
        for k in range(quiz.tokens.shape[1]):
            words = processor.tokenizer.convert_ids_to_tokens(quiz.tokens[i, k].tolist())
            start, end = int(quiz.prefix[i, k]), int(quiz.total[i, k])
            yield item, quiz.names[quiz.kinds[i, k]], words[:start], words[start : end - 1], (i, k)


def fitting(scene: worlds.Facts, words: list[str]) -> list[int]:
    """The things that a noun with its adjectives fits."""
    wanted = {word.removesuffix("s") for word in words} - {"thing"}
    return [
        number
        for number, thing in enumerate(scene["objects"])
        if wanted <= {thing[name] for name in ATTRIBUTES}
    ]


def name_at(prompt: list[str], at: int) -> list[str]:
    """The words of the name that a token ends."""
    start = at
    while prompt[start - 1] in ADJECTIVES:
        start -= 1
    return prompt[start : at + 1]


# ---- rows


@pytest.mark.parametrize("name, plan", PLANS)
def test_rows_fit_and_end(quiz, processor, name, plan):
    made, wanted = quiz(name, plan), WORLDS[name].plans[plan]
    about = [number for number, facts in enumerate(items(name)) if wanted.only(facts)]
    assert made.items.tolist() == about and made.tokens.shape == (len(about), wanted.each, wanted.length)
    end, newline = (processor.tokenizer.convert_tokens_to_ids(text) for text in ("<eos>", "\n"))
    for row, prefix, total in zip(
        made.tokens.flatten(0, 1).tolist(), made.prefix.flatten(), made.total.flatten(), strict=True
    ):
        assert row[prefix - 1] == newline and row.index(end) == total - 1 and not any(row[total:])
        assert 1 < total - prefix <= wanted.answer and total <= wanted.length
    assert {made.names[kind] for kind in made.kinds.flatten()} == set(wanted.askers)


def test_what_is_too_long_is_not_asked(processor, tmp_path):
    texts = ("How many cubes?", "How many big red cubes?", "How many cubes?")
    answers = ("2", "2", "1 2 3")

    def asker(_: worlds.Facts, rng: Random) -> Asked:
        which = rng.randrange(3)
        return Asked(texts[which], answers[which])

    facts = items("nodes")[:5]
    made = worlds.ask(tmp_path / "short", facts, processor, Plan(8, 7, 2, {"count": (asker, 1)}), "long")
    assert (made.total == 7).all() and (made.prefix == 5).all()  # "How many cubes ? \n" and "2"


def test_items_that_allow_too_few_questions_are_left_out(processor, tmp_path):
    facts = [{"count": str(number)} for number in (2, 123, 3, 4)]
    plan = Plan(3, 7, 2, {"count": (lambda facts, _: Asked("How many cubes?", facts["count"]), 1)})
    made = worlds.ask(tmp_path, facts, processor, plan, "few")
    assert made.items.tolist() == [0, 2, 3] and made.kinds.shape == (3, 3)
    answers = [processor.tokenizer.convert_ids_to_tokens(row.tolist())[5] for row in made.tokens[:, 0]]
    assert answers == ["2", "3", "4"]


@pytest.mark.parametrize("name", WORLDS)
def test_words_are_whole_and_answers_come_back(processor, name):
    """Only numbers above 100 are spelled."""
    tokenizer, rng, words = processor.tokenizer, Random(0), set()
    for plan in WORLDS[name].plans.values():
        for facts in filter(plan.only, items(name)):
            for asker, _ in plan.askers.values():
                if asked := asker(facts, rng):
                    words |= set(re.findall(r"\w+", f"{asked.prompt} {asked.answer}"))
                    ids = tokenizer.encode(asked.answer, add_special_tokens=False)
                    assert tokenizer.decode(ids) == " ".join(asked.answer.split())
                    assert "<unk>" not in tokenizer.tokenize(asked.prompt)
    spelled = {word for word in words if len(tokenizer.tokenize(word)) > 1}
    assert len(words) > 100
    assert all(word.isdigit() and int(word) > 100 for word in spelled), spelled


# ---- what a row names


@pytest.mark.parametrize("name, plan", PLANS)
def test_mentions_are_the_names_of_the_things_asked_about(quiz, processor, name, plan):
    """The words fit the thing and no other, every noun is one, and the chosen one is the answer."""
    made, labels = quiz(name, plan), set(build.LABELS)
    choosing = set()
    for item, kind, prompt, answer, at in rows(made, processor):
        facts = items(name)[item]
        ends = [place for place in made.mentions[at].tolist() if place]
        things, chosen = made.things[at].tolist(), made.chosen[at].tolist()
        assert ends == sorted(set(ends)) and things[len(ends) :] == [-1] * (MENTIONS - len(ends))
        if name == "scenes":
            names = [tuple(name_at(prompt, end)) for end in ends]
            for words, thing in zip(names, things, strict=False):
                assert words[-1] in NOUNS
                assert thing == -1 or fitting(facts, list(words)) == [thing], (prompt, thing)
        else:
            names = [(prompt[end],) for end in ends]
            for (label,), thing in zip(names, things, strict=False):
                assert thing == -1 or list(facts["nodes"])[thing] == label
                assert (thing == -1) == (label not in facts["nodes"])
        if plan not in ("official", "routes"):  # nothing is noted of the things in those
            every = [end for end, word in enumerate(prompt) if word in (NOUNS | labels)]
            assert ends == every[:MENTIONS], prompt
        for words, thing, right in zip(names, things, chosen, strict=False):
            choice = tuple(answer) in names and thing >= 0
            assert right == (words == tuple(answer) if choice else -1), (kind, prompt)
        if 1 in chosen:
            choosing.add(kind)
    nearer = {"depth", "distance", "closest", "object_rel_distance"}
    if name == "scenes":
        assert choosing == (nearer & set(made.names) if plan != "thoughts" else set())
    elif plan == "short":
        assert choosing == {"closer", "rank", "first-step"}


def _scene_truth(scene, kind: str, named: list[int], thing: int, words: list[str]) -> dict[str, float]:
    if kind in ("exist", "count", "object_counting"):
        return {"number": len(fitting(scene, words))}
    places = {number: np.array(scene["objects"][number]["3d_coords"]) for number in named}
    if kind in ("turned", "object_rel_direction"):
        ahead, there = (places[number][:2] - places[named[0]][:2] for number in named[1:])
        if thing == named[1]:
            return {"distance": np.linalg.norm(ahead)}
        scale = np.linalg.norm(ahead) * np.linalg.norm(there)
        left = (ahead[0] * there[1] - ahead[1] * there[0]) / scale
        return {"distance": np.linalg.norm(there), "sine": left, "cosine": ahead @ there / scale}
    reference = named[-1 if kind == "object_rel_distance" else 0]
    return {"distance": np.linalg.norm(places[thing] - places[reference])}


def _node_truth(facts, named: list[str], label: str, answer: str) -> dict[str, float]:
    truth, goal = {}, label
    if label == named[0]:
        goal = answer if answer in facts["nodes"] else label
    if goal != named[0]:
        away = np.subtract(facts["nodes"][goal], facts["nodes"][named[0]])
        length = np.linalg.norm(away)
        truth = {"distance": length, "sine": away[1] / length, "cosine": away[0] / length}
    if label == named[-1] and re.fullmatch(r"\d+(\.\d)?", answer):
        truth["number"] = float(answer)
    return truth


_WHERE = {"distance", "sine", "cosine"}
NOTED = {  # of which kinds what is noted; of the others nothing
    "scenes": {
        **dict.fromkeys(("exist", "count", "object_counting"), {"number"}),
        **dict.fromkeys(("distance", "apart", "closest"), {"distance"}),
        **dict.fromkeys(("object_abs_distance", "object_rel_distance"), {"distance"}),
        **dict.fromkeys(("turned", "object_rel_direction"), _WHERE),
    },
    "nodes": {
        **dict.fromkeys(("beside", "compass", "compass-node", "closer", "closest", "rank"), _WHERE),
        **dict.fromkeys(("joined", "next", "first-step"), _WHERE),
        **dict.fromkeys(("apart", "steps"), _WHERE | {"number"}),
        **dict.fromkeys(("coordinate", "how-many"), {"number"}),
    },
}


@pytest.mark.parametrize("name, plan", PLANS)
def test_what_is_noted_of_a_mention_is_true(quiz, processor, name, plan):
    made = quiz(name, plan)
    noted = {kind: set() for kind in made.names}
    for item, kind, prompt, answer, at in rows(made, processor):
        facts, things = items(name)[item], made.things[at].tolist()
        named = list(dict.fromkeys(thing for thing in things if thing >= 0))
        for slot, values in enumerate(made.told[at].tolist()):
            told = {key: value for key, value in zip(TOLD, values, strict=True) if not math.isnan(value)}
            if not told:
                continue
            end = int(made.mentions[at][slot])
            if name == "scenes":
                truth = _scene_truth(facts, kind, named, things[slot], name_at(prompt, end))
            else:
                labels = [list(facts["nodes"])[thing] for thing in named]
                truth = _node_truth(facts, labels, prompt[end], "".join(answer))
            assert told == pytest.approx(truth, abs=2e-3, rel=1e-3), (prompt, answer, slot)
            noted[kind] |= set(told)
    silent = ("scenes", "official"), ("nodes", "forms"), ("nodes", "routes")
    expected = {} if (name, plan) in silent else NOTED[name]
    assert noted == {kind: expected.get(kind, set()) for kind in made.names}


# ---- on disk


def same(one: Quiz, other: Quiz) -> bool:
    return all(
        torch.equal(torch.nan_to_num(part, -7), torch.nan_to_num(getattr(other, name), -7))
        for name, part in vars(one).items()
        if name != "names"
    )


def test_questions_follow_from_the_item_and_stay(processor, tmp_path, monkeypatch):
    def ask(folder: str, seed: str = "seed") -> Quiz:
        plan = WORLDS["nodes"].plans["short"]
        return worlds.ask(tmp_path / folder, items("nodes")[:10], processor, plan, seed)

    whole = ask("whole")
    monkeypatch.setattr(worlds, "SHARD", 4)
    assert same(ask("parts"), whole) and not same(ask("other", "another"), whole)
    files = sorted((tmp_path / "parts").iterdir())
    assert [file.name for file in files] == ["000000-4.npz", "000004-4.npz", "000008-2.npz"]
    files[1].unlink()
    before = [file.stat().st_mtime_ns for file in (files[0], files[2])]
    assert same(ask("parts"), whole)
    assert [file.stat().st_mtime_ns for file in (files[0], files[2])] == before


@pytest.mark.parametrize("name", WORLDS)
def test_a_corpus_is_what_was_drawn(tmp_path, monkeypatch, name):
    monkeypatch.setattr(worlds, "SHARD", 3)
    world = WORLDS[name]
    worlds.draw(tmp_path, world, "corpus", 5)
    corpus = worlds.Corpus(tmp_path, 5)
    assert len(corpus) == 5
    for number in range(5):
        facts = json.loads(json.dumps(world.make("corpus", number)))
        assert corpus.facts[number] == facts
        drawn = world.draw(facts)
        assert drawn.image.shape == (build.IMAGE_SIZE, build.IMAGE_SIZE, 3)
        assert np.array_equal(corpus.image[number], drawn.image)
        assert np.array_equal(corpus.owners[number], drawn.owners)
        things = len(drawn.classes)
        assert np.array_equal(corpus.classes[number, :things], drawn.classes)
        assert (corpus.classes[number, things:] == -1).all() and corpus.values[number, things:].isnan().all()
        for stored, value in (
            (corpus.floor[number], drawn.floor),
            (corpus.values[number, :things], drawn.values),
        ):
            np.testing.assert_allclose(stored.float(), value, atol=4e-3)
