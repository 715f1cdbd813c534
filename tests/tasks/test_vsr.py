"""VSR: rows and images from every place they lie in, groups of relations, rules, what was trained on."""

from __future__ import annotations

import io
import json
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

import datasets
import pytest
import tiny

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.files import downloads
from spatialvlm.parsing import answers
from spatialvlm.tasks.vsr import data as vsr
from spatialvlm.tasks.vsr.data import shared_with_training
from spatialvlm.tasks.vsr.scoring import BENCHMARK, by_relation, relation_table
from spatialvlm.worlds.clevr import scenes, series
from spatialvlm.worlds.clevr.facts import along, distance
from spatialvlm.worlds.clevr.questions import FAR, NEAR, VSR_KINDS
from spatialvlm.worlds.clevr.questions import vsr as caption_of

RELATIONS = ["at the right side of", "touching", "facing", "under", "near"]


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    tiny.image(seed).save(buffer, "PNG")
    return buffer.getvalue()


def row(number: int, **changed) -> dict:
    """A row with the hub's columns."""
    relation = RELATIONS[number % len(RELATIONS)]
    return {
        "image": f"{number:012d}.png",
        "image_link": f"http://images.cocodataset.org/train2017/{number:012d}.png",
        "caption": f"The cat is {relation} the train.",
        "label": number % 2,
        "relation": relation,
        "annotator_id": 1,
        "vote_true_validator_id": "[2, 67, 21]",
        "vote_false_validator_id": "[]",
    } | changed


def as_jsonl(folder, listed, name="dev.jsonl"):
    folder.mkdir(exist_ok=True, parents=True)
    (folder / name).write_text("".join(json.dumps(each) + "\n" for each in listed))
    return folder / name


def with_images(folder, numbers, part="train2017"):
    (folder / part).mkdir(exist_ok=True, parents=True)
    for number in numbers:
        (folder / part / f"{number:012d}.png").write_bytes(png(number))
    return folder


# ---- rows


def test_images_from_a_folder_and_its_parts(tmp_path):
    file = as_jsonl(tmp_path / "rows", [row(number) for number in range(5)])
    coco = with_images(with_images(with_images(tmp_path / "coco", [0, 1]), [2, 3], "val2017"), [4], ".")
    found = vsr.load(file, image_folder=coco)
    for number, example in enumerate(found):
        assert (example.id, example.task) == (f"vsr-dev-{number}", vsr.group(RELATIONS[number]))
        assert example.answer == ("no", "yes")[number % 2]
        assert example.prompt == (
            f"Is the following statement true or false? {example.question} Answer yes or no."
        )
        assert example.open_images()[0].tobytes() == tiny.image(number).tobytes()
        assert example.meta["pair"] == (f"{number:012d}.png", row(number)["caption"])
    assert [example.id for example in vsr.load(file, limit=2, image_folder=coco)] == [
        "vsr-dev-0",
        "vsr-dev-1",
    ]


def test_images_beside_the_rows(tmp_path):
    with_images(tmp_path, [0])
    (example,) = vsr.load(as_jsonl(tmp_path, [row(0)]))
    assert example.open_images()[0].tobytes() == tiny.image(0).tobytes()


@pytest.mark.parametrize("form", ["bytes", "Image"])
def test_images_in_the_rows(tmp_path, form):
    listed = [row(number) | {"image": {"bytes": png(number), "path": None}} for number in range(3)]
    table = datasets.Dataset.from_list(listed)
    table = table.cast_column("image", datasets.Image()) if form == "Image" else table
    table.to_parquet(tmp_path / "test.parquet")
    for number, example in enumerate(vsr.load(tmp_path)):
        assert example.open_images()[0].tobytes() == tiny.image(number).tobytes()
        assert example.meta["pair"][0] == f"{number:012d}.png"  # of the link


def test_splits_of_a_folder(tmp_path):
    for number, name in enumerate(("train.jsonl", "dev.jsonl", "test.jsonl")):
        as_jsonl(tmp_path, [row(number)], name)
    with_images(tmp_path, range(3))
    for split, number in {"train": 0, "dev": 1, "validation": 1, "val": 1, "test": 2}.items():
        assert [example.question for example in vsr.load(tmp_path, split)] == [row(number)["caption"]]
    (tmp_path / "dev.jsonl").unlink()
    with pytest.raises(UserError, match="no file of the split dev, only train, test"):
        vsr.load(tmp_path, "dev")
    with pytest.raises(UserError, match="--split static: VSR has train, dev, test"):
        vsr.load(tmp_path, "static")


def test_a_folder_with_both_ways_to_split_is_refused(tmp_path):
    as_jsonl(tmp_path / "random", [row(0)])
    as_jsonl(tmp_path / "zeroshot", [row(0)])
    with pytest.raises(UserError, match="holds vsr_random and vsr_zeroshot"):
        vsr.load(tmp_path, "dev")


def test_the_hub_calls_dev_validation(tmp_path, hub):
    content = {f"{split}.jsonl": json.dumps(row(0)) for split in ("train", "dev", "test")}
    for name in (vsr.HUB_ID, vsr.ZEROSHOT_ID):
        commit = hub.add(name, content)
    with_images(tmp_path, [0])
    names = (vsr.HUB_ID, "vsr_zeroshot", f"vsr_zeroshot@{commit}")
    ids = [vsr.load(name, "dev", image_folder=tmp_path)[0].id for name in names]
    assert ids == ["vsr-random-dev-0", "vsr-zeroshot-dev-0", "vsr-zeroshot-dev-0"]
    assert {path for _, path in hub.sent} == {"dev.jsonl"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": None}, "row 1 has no 'label'"),
        ({"label": 2}, "row 1: 'label' must be yes or no .1 or 0., not 2"),
        ({"label": float("nan")}, "row 1 has no 'label'"),
        ({"label": 0.5}, "row 1: 'label' must be yes or no .1 or 0., not 0.5"),
        ({"label": "left"}, "row 1: 'label' must be yes or no .1 or 0., not 'left'"),
        ({"caption": ""}, "row 1 has no 'caption'"),
        ({"caption": " "}, "row 1: 'caption' must be a text"),
        ({"relation": 3}, "row 1: 'relation' must be a text, not 3"),
        ({"image": None}, "row 1 has no 'image'"),
        ({"image": 7}, "row 1 has no readable image, but int"),
        ({"image": "iVBORw0KGgo" * 500}, "row 1: the image cannot be read"),
        ({"image": "gone.jpg"}, "row 1: image 'gone.jpg' is not in .*, nor in its train2017 or val2017"),
    ],
)
def test_a_bad_row_is_named(tmp_path, changes, message):
    file = as_jsonl(tmp_path, [row(0), row(1) | changes])
    with pytest.raises(UserError, match=message) as caught:
        vsr.load(file, image_folder=with_images(tmp_path, [0, 1]))
    assert "dev.jsonl" in str(caught.value) and "\n" not in str(caught.value)


def test_places_that_are_not_there(tmp_path):
    file = as_jsonl(tmp_path, [row(0)])
    with pytest.raises(UserError, match="--image_folder .*gone: no such folder"):
        vsr.load(file, image_folder=tmp_path / "gone")
    with pytest.raises(UserError, match="no such file or folder"):
        vsr.load(tmp_path / "gone")
    with pytest.raises(UserError, match="holds no VSR row"):
        vsr.load(as_jsonl(tmp_path, [], "empty.jsonl"))
    with pytest.raises(UserError, match="row 0: 'image_link' must be a web address, not 'file:"):
        vsr.load(as_jsonl(tmp_path, [row(0, image_link="file:///etc/hosts")], "links.jsonl"))


def test_a_truncated_image_is_named(tmp_path):
    file = as_jsonl(tmp_path, [row(0)])
    image = with_images(tmp_path, [0]) / "train2017/000000000000.png"
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(UserError, match="000000000000.png cannot be read"):
        vsr.load(file)[0].open_images()


def test_rows_that_repeat_and_relations_that_are_unknown_are_said(tmp_path, capsys):
    listed = [row(0), row(1), row(2, relation="atop"), row(1), row(3)]
    found = vsr.load(as_jsonl(with_images(tmp_path, range(4)), listed))
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "warning: not among VSR's relations, counted as Unallocated: 'atop' (1)",
        "warning: 1 rows repeat the image and caption of an earlier one and count again; "
        "the first is row 3, which repeats row 1",
    ]
    assert [example.task for example in found][2] == "Unallocated" and len({e.id for e in found}) == 5


# ---- the real annotation


def test_every_real_relation_has_its_group(real_data, capsys):
    counts = {}
    for name in ("random_dev", "zeroshot_dev"):
        found = BENCHMARK.load(
            str(real_data / f"vsr/{name}.jsonl")
        )  # without the photographs, which are not here
        counts[name] = Counter(example.task for example in found)
        assert all(
            BENCHMARK.rules[rule].gold(example) in (example.answer, example.answer == "yes")
            for example in found
            for rule in BENCHMARK.rules
        )
    assert capsys.readouterr().err == ""
    assert sum(counts["random_dev"].values()) == 1097 and sum(counts["zeroshot_dev"].values()) == 340
    assert counts["random_dev"].keys() == vsr.GROUPS.keys() and counts["random_dev"]["Orientation"] == 59
    with pytest.raises(UserError, match="vsr_random and vsr_zeroshot"):
        vsr.load(real_data / "vsr", "dev")


def test_real_splits_share_rows(real_data, tmp_path, capsys):
    """The zeroshot dev set as a test of an adapter that was trained on random's dev set, and the reverse."""
    files = [real_data / f"vsr/{name}_dev.jsonl" for name in ("random", "zeroshot")]
    pairs = [[vsr.pair(each) for _, each in vsr.read(file, "dev")] for file in files]
    for trained, tested in ((0, 1), (1, 0)):
        adapter = tmp_path / str(trained) / "adapter"
        adapter.mkdir(parents=True)
        (adapter.parent / "config.json").write_text(json.dumps({"arguments": {"data": str(files[trained])}}))
        assert shared_with_training(adapter, pairs[tested]) == [{"data": str(files[trained]), "pairs": 45}]
        assert f"warning: 45 of the test's {len(pairs[tested])} pairs" in capsys.readouterr().err


def test_what_an_adapter_was_trained_on(tmp_path, capsys):
    def run(name, **arguments):
        adapter = tmp_path / name / "adapter"
        adapter.mkdir(parents=True)
        (adapter.parent / "config.json").write_text(json.dumps({"arguments": arguments}))
        return adapter

    pairs = [vsr.pair(row(number)) for number in range(4)]
    mine = str(as_jsonl(tmp_path, [row(2), row(3), row(9), {"caption": None, "image": "x"}], "train.jsonl"))
    other = str(as_jsonl(tmp_path, [{"question": "?", "answers": ["yes", "no"]}], "sat.jsonl"))
    first = run("first", data=mine)
    assert shared_with_training(first, pairs) == [{"data": mine, "pairs": 2}]
    assert "2 of the test's 4 pairs" in capsys.readouterr().err
    assert shared_with_training(run("second", data="embedded", adapter=str(first)), pairs[:1]) == [
        {"data": mine, "pairs": 0}
    ]
    assert shared_with_training(run("third", data=other), pairs) == []
    assert shared_with_training(run("fourth", data="array/SAT"), pairs) == []
    assert shared_with_training(tmp_path / "no run/adapter", pairs) == []
    assert capsys.readouterr().err == ""

    assert shared_with_training(run("fifth", data=vsr.HUB_ID), pairs) == [{"data": vsr.HUB_ID, "pairs": None}]
    assert "whether the test was in it is not known" in capsys.readouterr().err
    (tmp_path / "first/config.json").write_text("[]")
    with pytest.raises(UserError, match="first/config.json is no run's config.json"):
        shared_with_training(first, pairs)


# ---- images from links


class Server:
    """Serves images by number at /NUMBER.png, or what `answer` says; counts what it was asked for."""

    def __init__(self):
        self.asked: Counter[str] = Counter()
        self.answer = {}


@contextmanager
def serving():
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.rpartition("/")[2]
            server.asked[name] += 1
            status, content = server.answer.get(name, (200, png(int(name.removesuffix(".png")))))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{http.server_port}/train2017"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads, "WAITS", (0, 0))
    return tmp_path / "cache/spatialvlm/images"


def linked(url, numbers):
    return [row(number, image_link=f"{url}/{number:012d}.png") for number in numbers]


def test_images_are_fetched_once(tmp_path, cache):
    with serving() as server:
        file = as_jsonl(tmp_path, linked(server.url, [0, 1, 2, 1]))
        assert len(vsr.load(file, limit=2)) == 2
        assert sum(server.asked.values()) == 2  # of the rows asked for alone
        found = vsr.load(file)
        assert [example.open_images()[0].tobytes() for example in found] == [
            tiny.image(number).tobytes() for number in (0, 1, 2, 1)
        ]
        assert set(server.asked.values()) == {1} and len(list(cache.iterdir())) == 3
    vsr.load(file)  # the server is gone, and not needed


def test_a_fetch_that_failed_goes_on_where_it_was(tmp_path, cache):
    with serving() as server:
        file = as_jsonl(tmp_path, linked(server.url, range(4)))
        server.answer["000000000002.png"] = (404, b"gone")
        with pytest.raises(
            UserError, match="000000000002.png cannot be downloaded .*404.*--image_folder"
        ) as caught:
            vsr.load(file)
        assert str(cache) in str(caught.value) and "\n" not in str(caught.value)
        assert server.asked["000000000002.png"] == 1  # another try would fare no better
        kept = {path.name for path in cache.iterdir()}
        assert not any(name.startswith(".") for name in kept)
        before = Counter(server.asked)
        del server.answer["000000000002.png"]
        assert len(vsr.load(file)) == 4 and len(list(cache.iterdir())) == 4
        asked_again = sum((server.asked - before).values())
        assert asked_again == 4 - len(kept)


@pytest.mark.parametrize("content", [b"<html>busy</html>", png(3)[:300]])
def test_what_is_no_whole_image_is_not_kept(tmp_path, cache, content):
    with serving() as server:
        server.answer["000000000003.png"] = (200, content)
        with pytest.raises(UserError, match="000000000003.png holds is no whole image"):
            vsr.load(as_jsonl(tmp_path, linked(server.url, [3])))
    assert not cache.exists()


def test_a_server_that_is_busy_is_asked_again(tmp_path, cache):
    with serving() as server:
        server.answer["000000000005.png"] = (503, b"")
        with pytest.raises(UserError, match="503"):
            vsr.load(as_jsonl(tmp_path, linked(server.url, [5])))
        assert server.asked["000000000005.png"] == 3


def test_without_a_network_a_line_says_what_to_do(tmp_path, cache):
    with serving() as server:
        url = server.url
    with pytest.raises(UserError, match="refused.*check the network and run again, or .*--image_folder"):
        vsr.load(as_jsonl(tmp_path, linked(url, [0])))


def test_a_cache_that_cannot_be_written_is_named(tmp_path, cache):
    cache.parent.parent.mkdir()
    cache.parent.write_text("a file where the folder should be")
    with serving() as server, pytest.raises(UserError, match="cannot write .*XDG_CACHE_HOME"):
        vsr.load(as_jsonl(tmp_path, linked(server.url, [0])))


# ---- rules and totals


def test_label_1_is_a_true_caption(tmp_path):
    listed = [row(0, caption="The cat is a dog.", label=0), row(1, caption="The cat is a cat.", label=1)]
    false, true = BENCHMARK.load(str(as_jsonl(tmp_path, listed)))
    assert (false.answer, true.answer) == ("no", "yes")
    golds = {name: (rule.gold(false), rule.gold(true)) for name, rule in BENCHMARK.rules.items()}
    assert golds == {"strict": ("no", "yes"), "official": (0, 1), "paper": ("no", "yes")}


@pytest.mark.parametrize(
    ("text", "strict", "official", "paper"),
    [
        ("yes", "yes", 1, "yes"),
        ("No.", "no", 0, "no"),
        ("True", "yes", 1, "true"),
        ("The statement is false.", "no", 0, "the statement is false"),
        ("1", None, 1, "1"),
        ("0", None, 0, "0"),
        ("I am not sure.", None, None, "i am not sure"),
        ("", None, None, None),
    ],
)
def test_rules(text, strict, official, paper):
    item = Example("a", (tiny.image(0),), "The cat is on the mat.", "yes", "Topological")
    read = {name: rule.parse(text, item) for name, rule in BENCHMARK.rules.items()}
    assert read == {"strict": strict, "official": official, "paper": paper}
    assert {name: rule.gold(item) for name, rule in BENCHMARK.rules.items()} == {
        "strict": "yes",
        "official": 1,
        "paper": "yes",
    }


def test_by_relation():
    marks = {"on": "1101", "under": "00"}
    records, relations = [], {}
    for relation, right in marks.items():
        for number, mark in enumerate(right):
            id = f"{relation}-{number}"
            records.append({"id": id, "correct": mark == "1", "gold": "yes", "vocabulary_size": 2})
            relations[id] = relation
    found = by_relation(records[::-1], relations)
    assert list(found) == ["on", "under"]  # the most frequent first
    assert (found["on"]["n"], found["on"]["accuracy"], found["on"]["chance"]) == (4, 0.75, 1.0)
    assert found["under"]["accuracy"] == 0.0 and found["under"]["interval"][1] > 0.3
    lines = relation_table(found).splitlines()
    assert lines[1].split()[:4] == ["on", "Topological", "4", "75.0"]


# ---- rendered scenes


def test_rendered_captions_are_true_of_their_scene():
    sides = {"left": "left", "right": "right", "front": "front", "behind": "behind"}
    seen = Counter()
    for index in range(60):
        scene = scenes.make("vsr-test", index)
        for kind in VSR_KINDS:
            if (asked := caption_of(scene, Random(index), kind)) is None:
                continue
            first, second = asked.meta["objects"]
            if kind == "Proximity":
                near = distance(scene, first, second) <= NEAR
                assert near or distance(scene, first, second) >= FAR
                is_true = near == (asked.meta["relation"] in ("near", "close to"))
            else:
                side = next(side for word, side in sides.items() if word in asked.meta["relation"])
                is_true = along(scene, first, second, side) > 0
            assert asked.answer == ("yes" if is_true else "no")
            assert asked.question in asked.prompt and f" {asked.meta['relation']} the " in asked.question
            assert vsr.group(asked.meta["relation"]) == kind
            seen[kind, asked.answer] += 1
    assert min(seen.values()) > 10 and len(seen) == 6


def test_the_words_of_rendered_captions_tell_nothing():
    told, true = Counter(), Counter()
    for index in range(400):
        scene = scenes.make("vsr-words", index)
        for kind in VSR_KINDS:
            if asked := caption_of(scene, Random(f"{index}"), kind):
                told[asked.meta["relation"]] += 1
                true[asked.meta["relation"]] += asked.answer == "yes"
    assert len(told) == 10
    for relation, n in told.items():
        assert abs(true[relation] / n - 0.5) < 3.5 * 0.5 / n**0.5, relation


def test_embedded_captions():
    found = vsr.load("embedded", limit=6)
    assert [example.task for example in found] == [*VSR_KINDS, *VSR_KINDS]
    assert all(answers.yes_no(example.answer) == example.answer for example in found)
    assert found[0].prompt == series.vsr("test", 6)[0].prompt
    with pytest.raises(UserError, match="splits train, validation, test"):
        vsr.load("embedded", split="dev")
