"""Counting: four data sets as one kind of question, photographs fetched from a server, fractions by hand."""

import hashlib
import io
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import datasets
import pytest
import tiny

from spatialvlm.errors import UserError
from spatialvlm.evaluation import metrics
from spatialvlm.evaluation.benchmark import to_record
from spatialvlm.evaluation.summary import summarize
from spatialvlm.files import downloads
from spatialvlm.tasks.counting import data as counting
from spatialvlm.tasks.counting.published import ACCURACY_AND_CLOSE_CALL, QWEN
from spatialvlm.tasks.counting.scoring import (
    BENCHMARK,
    aggregate,
    benchmark,
    fractions,
    table,
)


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    tiny.image(seed).save(buffer, "PNG")
    return buffer.getvalue()


def parquet(folder, rows, name="rows.parquet"):
    datasets.Dataset.from_list(rows).to_parquet(folder / name)
    return folder / name


# ---- the data sets


def clevr_rows(folder):
    rows = [
        ("How many things are there?", "<answer> 3 </answer>"),
        ("Are there any cubes?", "<answer> no </answer>"),
    ]
    rows.append(("What color is the big cube?", "<answer> red </answer>"))
    rows.append(("How many cubes are there?", "<answer> 0 </answer>"))
    image = {"bytes": png(0), "path": None}
    return parquet(folder, [{"image": image, "problem": asked, "solution": said} for asked, said in rows])


def sat_rows(folder):
    rows = [
        ("How many chairs are visible in the scene?", ["2", "0", "4"], "other"),
        ("Is the lamp left or right of the bed?", ["left", "right"], "other"),
        ("How many beds are visible in the scene?", ["1", "3"], "other"),
    ]
    image = [{"bytes": png(1), "path": None}]
    return parquet(
        folder,
        [
            {
                "image_bytes": image,
                "question": asked,
                "answers": choices,
                "question_type": kind,
                "correct_answer": choices[0],
            }
            for asked, choices, kind in rows
        ],
    )


def cvbench_rows(folder, **changed):
    row = {
        "idx": 5,
        "type": "2D",
        "task": "Count",
        "image": {"bytes": png(2), "path": None},
        "question": "How many chairs are in the image?",
        "choices": ["4", "1", "2"],
        "answer": "(C)",
        "prompt": "How many chairs are in the image? Select from the following choices.\n(A) 4\n(B) 1\n(C) 2",
        "source": "COCO",
    }
    other = row | {"idx": 6, "task": "Relation", "choices": ["left", "right", "above"], "question": "Where?"}
    return parquet(folder, [row | changed, other])


def test_clevr_counts_and_the_rest(tmp_path):
    file = clevr_rows(tmp_path)
    found = counting.load_one("clevr", file)
    assert [(each.task, each.answer, each.prompt) for each in found] == [
        ("CLEVR", "3", "How many things are there?"),
        ("CLEVR", "0", "How many cubes are there?"),
    ]
    everything = counting.load_one("clevr", file, counting_only=False)
    assert [each.task for each in everything] == ["CLEVR", "exist", "query_color", "CLEVR"]
    assert {each.meta["source"] for each in everything} == {"CLEVR"}
    assert [len(each.meta["vocabulary"]) for each in everything] == [11, 2, 8, 11]


def test_sat_counts_show_their_choices(tmp_path):
    chairs, beds = counting.load_one("sat", sat_rows(tmp_path))
    assert (chairs.task, chairs.answer, beds.answer, chairs.choices) == ("SAT", "2", "1", None)
    assert "Choose between the following options: " in chairs.prompt
    assert set(chairs.meta["vocabulary"]) == {"2", "0", "4"} and set(beds.meta["vocabulary"]) == {"1", "3"}


def test_cvbench_counts_are_asked_without_choices(tmp_path):
    (found,) = counting.load_one("cvbench", cvbench_rows(tmp_path))
    assert (found.task, found.answer, found.prompt) == ("CV-Bench", "2", "How many chairs are in the image?")
    assert found.choices is None and len(found.meta["vocabulary"]) == 11
    with pytest.raises(UserError, match="'cvbench-5': the count 'two' is no whole number"):
        list(counting.load_one("cvbench", cvbench_rows(tmp_path, choices=["4", "1", "two"])))


def test_start_and_limit_number_the_counts(tmp_path):
    file = clevr_rows(tmp_path)
    assert [each.answer for each in counting.load_one("clevr", file, start=1)] == ["0"]
    assert [each.answer for each in counting.load_one("clevr", file, limit=1)] == ["3"]
    with pytest.raises(UserError, match="no CLEVR question about a count from number 2 on"):
        counting.load_one("clevr", file, start=2)
    with pytest.raises(UserError, match="--dataset vsr: must be among clevr, sat, cvbench, pixmo"):
        counting.load_one("vsr", file)


def test_embedded_questions_are_counts_of_each_form():
    parts = [counting.load_one(name, "embedded", limit=3) for name in counting.SOURCES]
    assert [part[0].task for part in parts] == ["CLEVR", "SAT", "CV-Bench", "PixMo-Count"]
    together = counting.load("embedded", limit=3)
    assert len(together) == len({each.id for each in together}) == 12
    assert all(each.answer.isdecimal() and each.choices is None for each in together)
    later = counting.load_one("sat", "embedded", start=1, limit=2)
    assert [each.id for each in later] == [each.id for each in parts[1]][1:]
    everything = counting.load_one("clevr", "embedded", counting_only=False, limit=8)
    assert len({each.task for each in everything}) == 8


def test_the_instruction_asks_for_tags(tmp_path):
    (first, _) = counting.instructed(counting.load_one("clevr", clevr_rows(tmp_path)))
    assert first.prompt.startswith("How many things are there? ") and "<answer>" in first.prompt
    assert first.question == "How many things are there?"


def test_benchmark_loads_by_name(tmp_path):
    found = BENCHMARK.load(f"sat={sat_rows(tmp_path)}", limit=1)
    assert [each.meta["source"] for each in found] == ["SAT"]
    assert Counter(each.task for each in BENCHMARK.load("embedded", limit=1)).total() == 4


def test_counts_over_official_images(real_data):
    found = counting.load_one("clevr", real_data / "clevr")
    assert len(found) > 50 and all(BENCHMARK.rules["strict"].gold(each) == int(each.answer) for each in found)
    assert len(counting.load_one("clevr", real_data / "superclevr")) == 45


# ---- PixMo-Count's photographs


class Server(ThreadingHTTPServer):
    """Gives out what `files` holds; counts the requests for each path."""

    daemon_threads = True

    def __init__(self):
        self.files, self.asked = {}, Counter()
        super().__init__(("127.0.0.1", 0), Handler)

    def link(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked[self.path] += 1
        found = self.server.files.get(self.path, (404, b""))
        code, content = found.pop(0) if isinstance(found, list) else found
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, "WAITS", (0.0, 0.0))
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def pixmo_row(server, seed=0, content=None, **changed):
    content = content or png(seed)
    server.files.setdefault(f"/{seed}.png", (200, content))
    return {
        "image_url": server.link(f"/{seed}.png"),
        "image_sha256": hashlib.sha256(content).hexdigest(),
        "count": 2 + seed,
        "points": [{"x": 1.0, "y": 2.0}],
        "label": "people",
    } | changed


def test_photographs_are_fetched_once_and_checked(server, tmp_path, capsys):
    rows = [pixmo_row(server, seed) for seed in range(5)] + [pixmo_row(server, 0, label="hats", count=7)]
    file, cache = parquet(tmp_path, rows, "test.parquet"), tmp_path / "cache"
    found = counting.load_one("pixmo", file, image_cache=cache)
    assert [each.answer for each in found] == ["2", "3", "4", "5", "6", "7"]
    assert (found[0].id, found[0].prompt) == ("pixmo-test-0", "How many people are in the image?")
    assert found[5].prompt == "How many hats are in the image?" and found[5].images == found[0].images
    assert found[3].open_images()[0].tobytes() == tiny.image(3).tobytes()
    again = counting.load_one("pixmo", file, image_cache=cache)
    assert [each.id for each in again] == [each.id for each in found]
    assert set(server.asked.values()) == {1} and len(server.asked) == 5
    assert sorted(path.name for path in cache.iterdir()) == sorted({row["image_sha256"] for row in rows})
    assert "left out" not in capsys.readouterr().err


def test_only_what_is_asked_is_fetched(server, tmp_path):
    file = parquet(tmp_path, [pixmo_row(server, seed) for seed in range(5)])
    found = counting.load_one("pixmo", file, start=1, limit=2, image_cache=tmp_path / "cache")
    assert [each.id for each in found] == ["pixmo-test-1", "pixmo-test-2"]
    assert set(server.asked) == {"/1.png", "/2.png"}
    with pytest.raises(UserError, match="has 5 rows, none from row 5 on"):
        counting.load_one("pixmo", file, start=5, image_cache=tmp_path / "cache")


def test_what_cannot_be_had_is_left_out_counted_and_said(server, tmp_path, capsys):
    gone, other, page, busy = (pixmo_row(server, seed) for seed in (1, 2, 3, 4))
    server.files["/1.png"] = (404, b"")
    server.files["/2.png"] = (200, png(22))
    page = pixmo_row(server, 5, b"<html>not here</html>")
    server.files["/4.png"] = [(503, b""), (429, b""), (200, png(4))]
    deaf = pixmo_row(server, 6, image_url="http://127.0.0.1:9/6.png")
    file = parquet(tmp_path, [pixmo_row(server, 0), gone, other, page, busy, deaf])
    found = counting.load_one("pixmo", file, image_cache=tmp_path / "cache")
    assert [each.id for each in found] == ["pixmo-test-0", "pixmo-test-4"]
    said = capsys.readouterr().err
    for part in ("4 of 6 questions", "1 HTTP 404", "1 other bytes", "1 no image", "1 not answered"):
        assert part in said
    assert server.asked["/4.png"] == 3 and server.asked["/1.png"] == 1


def test_a_damaged_file_in_the_cache_is_fetched_again(server, tmp_path):
    row = pixmo_row(server)
    file, cache = parquet(tmp_path, [row]), tmp_path / "cache"
    counting.load_one("pixmo", file, image_cache=cache)
    (cache / row["image_sha256"]).write_bytes(png(0)[:50])
    (found,) = counting.load_one("pixmo", file, image_cache=cache)
    assert found.open_images() and server.asked["/0.png"] == 2


def test_no_photograph_at_all(server, tmp_path):
    row = pixmo_row(server, image_sha256="0" * 64)
    with pytest.raises(UserError, match=r"none of 1 photographs could be downloaded \(1 other bytes\)"):
        counting.load_one("pixmo", parquet(tmp_path, [row]), image_cache=tmp_path / "cache")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make the folder .*file"):
        counting.load_one("pixmo", parquet(tmp_path, [row]), image_cache=tmp_path / "file")


@pytest.mark.parametrize(
    "name, value",
    [
        ("image_url", "file:///etc/hosts"),
        ("image_url", ""),
        ("image_url", None),
        ("image_url", 3),
        ("image_sha256", "abc"),
        ("image_sha256", "../" * 21 + "a"),
        ("count", -1),
        ("count", 2.5),
        ("count", float("nan")),
        ("count", "three"),
        ("count", True),
        ("count", None),
        ("label", " "),
        ("label", 4),
        ("label", None),
    ],
)
def test_a_row_that_cannot_be_is_named_and_nothing_is_fetched(server, tmp_path, name, value):
    rows = [pixmo_row(server, 0), pixmo_row(server, 1, **{name: value})]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=f"rows.jsonl row 1.*'{name}'") as caught:
        counting.load_one("pixmo", tmp_path / "rows.jsonl", image_cache=tmp_path / "cache")
    assert "\n" not in str(caught.value) and not server.asked
    del rows[1][name]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=f"rows.jsonl row 1 has no '{name}'"):
        counting.load_one("pixmo", tmp_path / "rows.jsonl", image_cache=tmp_path / "cache")


# ---- scores


def records(source, pairs):
    return [
        {
            "id": f"{source}-{number}",
            "task": source,
            "source": source,
            "parsed": said,
            "gold": right,
            "correct": said == right,
            "vocabulary_size": 11,
        }
        for number, (said, right) in enumerate(pairs)
    ]


# 3 of 8 right; of 5 wrong ones 2 off by one, one off by two, one unparsed, one off by 6
PAIRS = [(2, 2), (0, 0), (5, 5), (3, 2), (1, 2), (4, 6), (None, 1), (9, 3)]


def test_shares_by_hand():
    made = records("SAT", PAIRS) + records("CLEVR", [(1, 1)])
    found = fractions(made)
    assert list(found) == ["SAT", "CLEVR"]
    sat = {name: (part.value, part.n) for name, part in found["SAT"].items()}
    assert sat == {"accuracy": (3 / 8, 8), "within": (5 / 8, 8), "close_call": (2 / 5, 5)}
    assert found["SAT"]["close_call"].interval == metrics.proportion(2, 5).interval
    assert "close_call" not in found["CLEVR"] and found["CLEVR"]["within"].value == 1
    assert fractions(made, threshold=2)["SAT"]["within"].value == 6 / 8
    assert fractions(made, threshold=0)["SAT"]["within"].value == 3 / 8


def test_other_questions_are_no_counts():
    made = records("CLEVR", PAIRS) + records("exist", [("yes", "no"), ("no", "no")])
    assert list(fractions(made)) == ["CLEVR"]
    totals = aggregate(made)
    assert totals["micro"].value == 4 / 10 and totals["mean_of_tasks"].value == (3 / 8 + 1 / 2) / 2
    assert (totals["close_call"].value, totals["within"].value, totals["within"].n) == (2 / 5, 5 / 8, 8)
    assert set(aggregate(records("exist", [("yes", "no")]))) == {"micro", "mean_of_tasks"}
    two = summarize(made, benchmark(2).aggregate, BENCHMARK.rules["strict"], "Counting")
    assert two["aggregates"]["within"]["value"] == 6 / 8


def test_table_has_n_intervals_and_what_is_published():
    found = fractions(records("SAT", PAIRS) + records("CLEVR", [(1, 1)]))
    head, sat, clevr = table(found).splitlines()
    assert "within 1" in head and "published" not in head
    assert sat.split()[:3] == ["SAT", "8", "37.5"] and "40.0 (11.8 to 76.9)" in sat and clevr.endswith("-")
    _, sat, clevr = table(found, published=ACCURACY_AND_CLOSE_CALL[QWEN]).splitlines()
    assert sat.endswith("70.49 (91.11)") and clevr.endswith("81.10 (96.81)")


@pytest.mark.parametrize(
    "text, strict, official, paper",
    [
        ("<answer> 3 </answer>", 3, 3, 3),
        ("<answer>three</answer>", 3, "three", 3),
        ("There are 3.", 3, 3, None),
        ("<answer>between 2 and 3</answer>", None, 3, 2),
        ("I see 5 cubes and 2 balls. <answer>3</answer>", 3, 3, 3),
        ("no idea", None, "no idea", None),
        ("<answer></answer>", None, None, None),
        ("", None, None, None),
    ],
)
def test_who_reads_what(tmp_path, text, strict, official, paper):
    example = counting.load_one("clevr", clevr_rows(tmp_path))[0]
    for name, expected in (("strict", strict), ("official", official), ("paper", paper)):
        rule = BENCHMARK.rules[name]
        assert rule.gold(example) == 3
        record = to_record(example, [text], rule, 3)
        assert record["parsed"] == expected and record["correct"] == (expected == 3), name


def test_other_answers_of_clevr_are_read_by_every_rule(tmp_path):
    examples = counting.load_one("clevr", clevr_rows(tmp_path), counting_only=False)
    for name, rule in BENCHMARK.rules.items():
        for example, wrong in ((examples[1], "yes"), (examples[2], "blue")):
            gold = rule.gold(example)
            said = [f"<answer> {example.answer} </answer>", f"<answer>{wrong}</answer>"]
            assert [to_record(example, [text], rule, gold)["correct"] for text in said] == [True, False], name
