"""CONTRIBUTING.md's examples work as written: a benchmark is added, evaluated and scored."""

import json
import re
from pathlib import Path

import pytest

import spatialvlm.tasks
from spatialvlm.evaluation import evaluate
from spatialvlm.evaluation.benchmark import STRICT_CHOICE
from spatialvlm.example import Example
from spatialvlm.tasks import registry, score_file

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
BENCHMARK, LINE, REWARD = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def compass(tmp_path, monkeypatch):
    file = tmp_path / re.match(r"# (\S+)", BENCHMARK)[1]
    file.parent.mkdir(parents=True)
    file.write_text(BENCHMARK)
    tasks = [*spatialvlm.tasks.__path__, str(tmp_path / "spatialvlm/tasks")]
    monkeypatch.setattr(spatialvlm.tasks, "__path__", tasks)
    for name, place in eval("{" + LINE + "}").items():
        monkeypatch.setitem(registry.BENCHMARKS, name, place)
    return registry.benchmark("compass")


def test_the_benchmark_is_evaluated_and_scored(compass, tiny_paligemma, tmp_path):
    examples = compass.load("embedded", limit=40)
    assert len({example.id for example in examples}) == 40
    assert {example.task for example in examples} == {"north", "south", "west", "east"}
    assert {example.answer for example in examples} == {"(A)", "(B)"}

    args = evaluate.Args(output_dir=str(tmp_path / "run"), batch_size=8)
    records, summary = evaluate.run(*tiny_paligemma, examples[:8], compass, args)
    assert len(records) == summary["n"] == 8

    rows = [{"id": each.id, "prediction": f"It is {each.answer}."} for each in examples]
    rows[0]["prediction"] = "(A) or (B)"
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scored = score_file.score(score_file.Args("compass", str(tmp_path / "rows.jsonl"), "embedded", limit=40))
    assert scored["aggregates"]["micro"]["value"] == 39 / 40


def test_the_reward_scores_a_completion(compass):
    names = {"Example": Example, "STRICT_CHOICE": STRICT_CHOICE}
    exec(REWARD, names)
    example = compass.load("embedded", limit=1)[0]
    wrong = {"(A)": "(B)", "(B)": "(A)"}[example.answer]
    assert [names["reward"](text, example) for text in (example.answer, wrong, "")] == [1, 0, 0]
