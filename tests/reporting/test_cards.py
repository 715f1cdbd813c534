"""Cards of adapters and data sets, and what sending them refuses; nothing reaches the network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard, HfApi, ModelCard
from report_runs import always_a, right, write, write_training

from make_data import vsi_100k
from spatialvlm.errors import UserError
from spatialvlm.models.loading import EMBEDDED
from spatialvlm.reporting import cards
from spatialvlm.tasks.cvbench import data as cvbench


@pytest.fixture(scope="module")
def examples():
    return list(cvbench.load("embedded", limit=4))


def trained(folder: Path, examples, base: str = str(EMBEDDED)) -> Path:
    """A run as a training leaves it, but for the adapter's weights."""
    write_training(folder, [0.1, 0.2])
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    config = json.loads((folder / "config.json").read_text())
    config["arguments"] |= {
        "lora_r": 16,
        "output_dir": "/somewhere/run",
        "run_name": "v2",
        "eval_data": "embedded",
    }
    config["command"] = ["pali_sat_grpo.py", "--config", "/somewhere/runs/v2.yaml", "--seed", "0"]
    (folder / "config.json").write_text(json.dumps(config))
    write(folder / "base", examples, always_a, evaluated="base", eval_data="embedded")
    write(folder / "trained", examples, right, evaluated="trained", eval_data="embedded")
    return folder


def test_a_card_says_what_was_trained_how_and_what_it_scores(tmp_path, examples):
    path = cards.write_adapter_card(trained(tmp_path / "run", examples))
    card = ModelCard.load(path)
    assert card.data.library_name == "peft" and card.data.license == "apache-2.0"
    assert "embedded PaliGemma 2" in card.text and "rendered scenes" in card.text
    assert "python pali_sat_grpo.py --config v2.yaml --seed 0" in card.text
    assert "| lora_r" in card.text and "More Information Needed" not in card.text
    assert "/somewhere" not in path.read_text() and str(EMBEDDED.parent) not in path.read_text()
    summary = json.loads((tmp_path / "run/trained/summary.json").read_text())
    low, high = summary["tasks"]["Depth"]["interval"]
    row = next(line for line in card.text.splitlines() if line.startswith("| trained"))
    assert "| 4 " in row and f"100.0 ({100 * low:.1f} to {100 * high:.1f})" in row
    results = {result.metric_name.split(" (")[0]: result.metric_value for result in card.data.eval_results}
    assert results == {f"accuracy, {task}": 100.0 for task in summary["tasks"]}


def test_an_adapter_to_published_weights_names_them_and_their_licence(tmp_path, examples):
    base = "google/paligemma2-3b-mix-224"
    card = ModelCard.load(cards.write_adapter_card(trained(tmp_path / "run", examples, base)))
    assert card.data.base_model == base and card.data.license == "gemma"


def test_a_pinned_data_set_and_model_are_named_without_their_revision(tmp_path, examples):
    base = "google/paligemma2-3b-mix-224@float16"
    folder = trained(tmp_path / "run", examples, base)
    config = json.loads((folder / "config.json").read_text())
    config["arguments"]["data"] = "array/SAT@0123abc"
    (folder / "config.json").write_text(json.dumps(config))
    card = ModelCard.load(cards.write_adapter_card(folder))
    assert card.data.datasets == ["array/SAT"] and card.data.base_model == base.partition("@")[0]
    assert "[array/SAT@0123abc](https://huggingface.co/datasets/array/SAT/tree/0123abc)" in card.text
    assert f"[{base}](https://huggingface.co/google/paligemma2-3b-mix-224/tree/float16)" in card.text


def test_a_run_whose_answers_were_changed_gets_no_card(tmp_path, examples):
    folder = trained(tmp_path / "run", examples)
    file = folder / "trained" / "predictions.jsonl"
    file.write_text(file.read_text().replace('"correct": true', '"correct": false', 1))
    with pytest.raises(UserError, match="not the summary"):
        cards.write_adapter_card(folder)
    assert not (folder / "adapter" / "README.md").exists()


SPOILT = {  # file of the run, what is in it -> what is said
    "config.json": [
        ("{", "config.json is damaged"),
        ('{"arguments": {}}', "has no 'arguments' or 'command'"),
    ],
    "adapter/adapter_config.json": [("{", "adapter_config.json is damaged"), ("{}", "names no base model")],
}


@pytest.mark.parametrize(
    ("file", "content", "message"), [(file, *each) for file, spoilt in SPOILT.items() for each in spoilt]
)
def test_a_damaged_run_is_named(file, content, message, tmp_path, examples):
    folder = trained(tmp_path / "run", examples)
    (folder / file).write_text(content)
    with pytest.raises(UserError, match=message) as refused:
        cards.write_adapter_card(folder)
    assert "\n" not in str(refused.value)


def test_a_folder_without_adapter_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no adapter/"):
        cards.write_adapter_card(tmp_path)


def test_nothing_is_sent_without_login_or_a_name(tmp_path, examples, monkeypatch):
    monkeypatch.setattr(cards, "get_token", lambda: None)
    folder = trained(tmp_path / "run", examples)
    with pytest.raises(UserError, match="hf auth login"):
        cards.push(folder, "owner/name")
    with pytest.raises(UserError, match="give owner/name"):
        cards.push(folder, "name")


def test_what_is_sent_is_the_adapter_with_its_card(tmp_path, examples, monkeypatch):
    sent = []
    monkeypatch.setattr(cards, "get_token", lambda: "a token")
    monkeypatch.setattr(
        HfApi, "create_repo", lambda self, name, **options: sent.append((name, options["repo_type"]))
    )
    monkeypatch.setattr(
        HfApi,
        "upload_folder",
        lambda self, **options: sent.append(sorted(p.name for p in Path(options["folder_path"]).iterdir())),
    )
    cards.push(trained(tmp_path / "run", examples), "owner/name")
    assert sent == [("owner/name", "model"), ["README.md", "adapter_config.json"]]


def test_the_hubs_refusal_is_one_line(tmp_path, examples, monkeypatch):
    def refuse(self, name, **options):
        raise RuntimeError("403 Forbidden\nmore")

    monkeypatch.setattr(cards, "get_token", lambda: "a token")
    monkeypatch.setattr(HfApi, "create_repo", refuse)
    with pytest.raises(UserError, match="403 Forbidden") as error:
        cards.push(trained(tmp_path / "run", examples), "owner/name")
    assert "\n" not in str(error.value)


def test_a_data_sets_card_reads_back(tmp_path):
    path = tmp_path / "README.md"
    columns = {"question": "in words", "answer": "a number"}
    cards.dataset_card(
        "Rooms", "Made by rule.", {"train": 1500, "validation": 20}, columns, {"seed": 0}
    ).save(path)
    card = DatasetCard.load(path)
    assert card.data.license == "apache-2.0" and card.data.size_categories == ["1K<n<10K"]
    files = yaml.safe_load(card.data.to_yaml())["configs"][0]["data_files"]
    assert files == [{"split": split, "path": f"{split}.parquet"} for split in ("train", "validation")]
    assert "1,500" in card.text and "`answer`, a number" in card.text and "- `seed`: 0" in card.text


def test_rooms_of_others_have_no_licence_of_ours():
    splits = {"train": {"scenes": 3, "rows": 90}}
    for is_rendered, licence in ((True, "apache-2.0"), (False, None)):
        card = vsi_100k.card(splits, {"data": "/elsewhere/scans", "seed": 0}, is_rendered)
        assert card.data.license == licence and "/elsewhere" not in str(card)
        assert ("whose terms of use hold" in card.text) != is_rendered


def test_the_commands_words_are_its_flags():
    assert cards.flags(["push", "run", "owner/name"]) == [
        "--action",
        "push",
        "--run",
        "run",
        "--name",
        "owner/name",
    ]
    assert cards.flags(["write", "run"]) == ["--action", "write", "--run", "run"]
    assert cards.flags(["--help"]) == ["--help"]
