"""The rehearsal runs the real commands, on stand-ins that have the published layout."""

import json
import shutil
import signal
from collections import namedtuple

import pytest
import rehearse
import stand_ins
from pyarrow import parquet
from transformers import PaliGemmaProcessor

from spatialvlm import cli

FREE = namedtuple("FREE", "free")


@pytest.mark.slow
def test_commands_run_on_stand_ins_are_stopped_resumed_and_measured(tmp_path, capsys):
    flags = ["--shape", "small", "--folder", str(tmp_path), "--commands", "grpo", "eval_sat"]
    parts = cli.run(rehearse.main, rehearse.Args, flags)
    printed = capsys.readouterr().out
    assert [(part["command"], part["code"]) for part in parts] == [
        ("grpo", -signal.SIGTERM),
        ("grpo --resume", 0),
        ("eval_sat", 0),
    ]
    first, resumed, evaluated = parts
    assert (first["steps"][0]["step"], resumed["steps"][0]["step"]) == (1, 2) and not evaluated["steps"]
    assert first["steps"][0]["informative"] > 0 and first["steps"][0]["grad_norm"] > 0
    assert 0 < first["first answers"] < first["first step"] <= first["seconds"]
    for part in parts:
        assert part["taken"] == part["memory"] - part["memory_before"] > 0.5 * part["planned"] > 0
        assert part["command"] in printed
    report = json.loads((tmp_path / "rehearsal.json").read_text())
    assert report["commands"] == json.loads(json.dumps(parts)) and report["changed"].keys() == {
        "grpo",
        "eval_sat",
    }
    assert (tmp_path / "runs/grpo/trained/summary.json").is_file()

    checkpoint, sat = tmp_path / "checkpoint-small", tmp_path / "SAT-small"
    index = json.loads((checkpoint / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) == 2
    tokenizer = PaliGemmaProcessor.from_pretrained(checkpoint).tokenizer
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<loc0000>", "<seg000>", "<seg127>", "<image>"]
    assert tokenizer.convert_tokens_to_ids(tokens) == [0, 1, 2, 3, 256000, 257024, 257151, 257152]
    assert len(tokenizer) == 257153
    assert sorted(path.name for path in sat.iterdir()) == [
        "SAT_test.parquet",
        "SAT_train.parquet",
        "SAT_val.parquet",
    ]
    assert parquet.ParquetFile(sat / "SAT_train.parquet").num_row_groups == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--commands", "dpo"], "--commands dpo: must be of grpo, sft"),
        ([], "0.0 GB are free, 7.5 are needed; give another --folder"),
    ],
)
def test_a_users_mistake_is_one_line(flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: FREE(10**6))
    with pytest.raises(SystemExit) as caught:
        cli.run(rehearse.main, rehearse.Args, ["--folder", str(tmp_path / "new"), *flags])
    assert caught.value.code == 2 and message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_command_that_fails_is_named_with_its_last_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rehearse, "make_files", lambda *_: None)
    monkeypatch.setattr(rehearse, "plan", lambda *_: 1)
    with pytest.raises(SystemExit) as caught:
        cli.run(rehearse.main, rehearse.Args, ["--folder", str(tmp_path), "--commands", "eval_sat"])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and "eval_sat ended with code 2" in error and "SAT-paligemma2-3b" in error


def test_the_small_shape_has_the_published_vocabulary():
    small, whole = (stand_ins.config(shape).get_text_config() for shape in ("small", "paligemma2-3b"))
    assert small.vocab_size == whole.vocab_size == 257_216 and small.hidden_size < 100
