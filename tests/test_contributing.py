"""CONTRIBUTING.md's examples work as written: a benchmark is added, evaluated and scored."""

import json
import re
from pathlib import Path

import pytest

import spatialvlm.tasks
from spatialvlm.evaluation import evaluate
from spatialvlm.models import loading
from spatialvlm.run_folder import DataSource
from spatialvlm.tasks import registry, score_file

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
BENCHMARK, LINES, SCRIPT, REWARD, CLOSURE = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def compass(tmp_path, monkeypatch):
    file = tmp_path / re.match(r"# (\S+)", BENCHMARK)[1]
    file.parent.mkdir(parents=True)
    file.with_name("__init__.py").touch()
    file.write_text(BENCHMARK)
    tasks = [*spatialvlm.tasks.__path__, str(tmp_path / "spatialvlm/tasks")]
    monkeypatch.setattr(spatialvlm.tasks, "__path__", tasks)
    for table, line in zip((registry.BENCHMARKS, registry.LOADERS), LINES.splitlines(), strict=True):
        for name, place in eval("{" + line + "}").items():
            monkeypatch.setitem(table, name, place)
    return registry.benchmark("compass")


def test_the_benchmark_is_evaluated_and_scored(compass, tiny_paligemma, tmp_path, monkeypatch):
    examples = compass.load("embedded", limit=40)
    assert len({example.id for example in examples}) == 40
    assert {example.task for example in examples} == {"north", "south", "west", "east"}
    assert {example.answer for example in examples} == {"(A)", "(B)"}

    monkeypatch.setattr(loading, "load", lambda args: tiny_paligemma)
    names = {"__name__": "eval_compass"}
    exec(SCRIPT, names)
    names["main"](evaluate.Args(output_dir=str(tmp_path / "run"), batch_size=8, limit=8))
    assert json.loads((tmp_path / "run/summary.json").read_text())["n"] == 8
    config = json.loads((tmp_path / "run/config.json").read_text())
    rows = registry.load_rows(DataSource.of(config, "config.json"))
    assert [each.id for each in rows] == [each.id for each in examples[:8]]

    rows = [{"id": each.id, "prediction": f"It is {each.answer}."} for each in examples]
    rows[0]["prediction"] = "(A) or (B)"
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scored = score_file.score(score_file.Args("compass", str(tmp_path / "rows.jsonl"), "embedded", limit=40))
    assert scored["aggregates"]["micro"]["value"] == 39 / 40


def test_the_reward_scores_a_completion(compass):
    names = {}
    exec(REWARD, names)
    example = compass.load("embedded", limit=1)[0]
    wrong = {"(A)": "(B)", "(B)": "(A)"}[example.answer]
    by_chance = f"not {example.answer}"
    texts = (example.answer, wrong, "", by_chance)
    assert [names["accuracy"](text, example) for text in texts] == [1, 0, -0.2, 0]


def test_the_closure_is_that_of_the_script():
    _, found, closure = CLOSURE.partition("...\n\n")
    assert found and closure in (ROOT / "model/pali_sat_grpo.py").read_text()
