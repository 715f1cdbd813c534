"""The run folder: what it holds, how it goes on after a stop, and what it refuses."""

import copy
import csv
import errno
import fcntl
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from spatialvlm import run_folder
from spatialvlm.errors import UserError
from spatialvlm.run_folder import DataSource, Run, environment, fingerprint, fresh_folder, read_lines

ROOT = Path(__file__).parents[1]
CONFIG = {"model": "embedded", "seed": 0, "batch_size": 4}
ROWS = [{"id": "a", "correct": True}, {"id": "b", "correct": False}]


def test_config_holds_arguments_and_environment(tmp_path):
    Run(tmp_path / "deep" / "run", CONFIG | {"path": Path("x")}, facts={"data_revision": "abc"})
    written = json.loads((tmp_path / "deep/run/config.json").read_text())
    assert written["arguments"] == CONFIG | {"path": "x"}
    assert written["data_revision"] == "abc"
    assert {"torch", "transformers", "python"} <= written["versions"].keys()
    assert written["device"] and written["command"]


def test_config_holds_where_the_rows_came_from(tmp_path):
    (tmp_path / "rows.jsonl").write_text("{}")
    source = DataSource("cvbench", {"path": str(tmp_path / "rows.jsonl"), "split": "test", "limit": None})
    Run(tmp_path / "run", CONFIG, data=source)
    written = json.loads((tmp_path / "run/config.json").read_text())
    assert written["data"]["revision"] == fingerprint(tmp_path / "rows.jsonl")
    assert DataSource.of(written, "config.json") == source
    for other in ({}, {"data": None}, {"data": {"loader": 3, "arguments": {}}}, {"data": {"loader": "x"}}):
        with pytest.raises(UserError, match="config.json does not record where its rows came from"):
            DataSource.of(other, "config.json")


def test_environment_names_the_commit_it_runs_from():
    made = environment()
    assert re.fullmatch("[0-9a-f]{40}", made["git_commit"] or "0" * 40)
    assert made["git_dirty"] in (True, False, None)


def test_predictions_come_back_in_order(tmp_path):
    run = Run(tmp_path, CONFIG)
    run.add_predictions(ROWS[:1])
    assert Run(tmp_path, CONFIG).predictions() == ROWS[:1]  # on the disk, before the run ends
    run.add_predictions(ROWS[1:])
    assert run.predictions() == ROWS


@pytest.mark.parametrize("torn", ['{"id": "c", "corr', '{"id": "c"}', "\x00\x00", "{"])
def test_a_torn_last_line_is_cut_off_and_the_run_goes_on(tmp_path, torn):
    Run(tmp_path, CONFIG).add_predictions(ROWS)
    with (tmp_path / "predictions.jsonl").open("a") as file:
        file.write(torn)
    again = Run(tmp_path, CONFIG)
    assert again.predictions() == ROWS
    again.add_predictions([{"id": "c"}])
    assert again.predictions() == [*ROWS, {"id": "c"}]


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    run = Run(tmp_path, CONFIG)
    (tmp_path / "predictions.jsonl").write_text('{"id": "a"}\n{"id": \n{"id": "c"}\n')
    with pytest.raises(UserError, match=r"predictions.jsonl, line 2 is damaged"):
        run.predictions()


def test_another_configuration_is_refused_by_name(tmp_path):
    Run(tmp_path, CONFIG)
    with pytest.raises(UserError, match=r"seed was 0, now 1.*--output_dir") as caught:
        Run(tmp_path, CONFIG | {"seed": 1})
    assert "batch_size" not in str(caught.value) and "model" not in str(caught.value)
    with pytest.raises(UserError, match=r"extra was None, now 5"):
        Run(tmp_path, CONFIG | {"extra": 5})


def test_what_changes_no_result_may_differ(tmp_path):
    Run(tmp_path, CONFIG)
    Run(tmp_path, CONFIG | {"batch_size": 1, "output_dir": "elsewhere"})
    with pytest.raises(UserError, match="batch_size was 4, now 1"):
        Run(tmp_path, CONFIG | {"batch_size": 1}, may_differ=())


def test_a_data_set_that_has_changed_on_the_hub_is_read_as_it_was_by_its_commit(tmp_path, hub):
    old = hub.add("owner/name", {"train.jsonl": "{}"})
    made = {"data": "owner/name", "data_state": old}
    Run(tmp_path, made)
    with pytest.raises(
        UserError, match=f"data_state was '{old}', now '123' .--data owner/name@{old} reads what"
    ):
        Run(tmp_path, made | {"data_state": "123"})
    Run(tmp_path, {"data": f"owner/name@{old}", "data_state": fingerprint(f"owner/name@{old}")})
    with pytest.raises(UserError, match="data was 'owner/name', now 'owner/other'"):
        Run(tmp_path, made | {"data": "owner/other"})


STEP = {"prompts_per_device": 2, "gradient_accumulation_steps": 8, "processes": 2}


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"processes": 1}, "--gradient_accumulation_steps 16 makes them 32"),
        ({"processes": 4}, "--gradient_accumulation_steps 4 makes them 32"),
        ({"processes": 1, "prompts_per_device": 1}, "--gradient_accumulation_steps 32 makes them 32"),
        ({"processes": 3}, "launch 2 processes as before"),
        ({"processes": 1, "gradient_accumulation_steps": 16}, None),
        ({"processes": 1, "prompts_per_device": 4}, None),
        ({"gradient_accumulation_steps": 16, "prompts_per_device": 1}, None),
    ],
)
def test_prompts_per_step_are_compared_over_all_processes(tmp_path, capsys, change, remedy):
    Run(tmp_path, CONFIG | STEP)
    if remedy is None:
        Run(tmp_path, CONFIG | STEP | change)
        assert (
            "32 (prompts_per_device 2 x gradient_accumulation_steps 8 x processes 2)"
            in capsys.readouterr().out
        )
        return
    with pytest.raises(UserError, match=f"prompts per step were 32 .* x processes 2.*{remedy}") as caught:
        Run(tmp_path, CONFIG | STEP | change)
    assert "processes was" not in str(caught.value)


def test_runs_that_do_not_record_their_processes_are_compared_by_their_flags(tmp_path, capsys):
    earlier = {name: value for name, value in STEP.items() if name != "processes"}
    Run(tmp_path, CONFIG | earlier)
    Run(tmp_path, CONFIG | STEP | {"processes": 1})
    assert "prompts per step" not in capsys.readouterr().out
    with pytest.raises(UserError, match="prompts_per_device was 2, now 4"):
        Run(tmp_path, CONFIG | STEP | {"prompts_per_device": 4, "gradient_accumulation_steps": 4})


def test_a_damaged_config_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="config.json is damaged"):
        Run(tmp_path, CONFIG)


def read_csv(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_metrics_as_lines_and_as_a_table(tmp_path):
    run = Run(tmp_path, CONFIG)
    run.log(1, reward=0.25)
    run.log(2, reward=0.5)
    run.log(3, reward=0.75, kl=0.1)
    assert run.metrics()[-1] == {"step": 3, "reward": 0.75, "kl": 0.1}
    assert read_csv(tmp_path / "metrics.csv") == [
        {"step": "1", "reward": "0.25", "kl": ""},
        {"step": "2", "reward": "0.5", "kl": ""},
        {"step": "3", "reward": "0.75", "kl": "0.1"},
    ]


def test_metrics_of_a_run_gone_on_with_are_those_of_one_never_stopped(tmp_path):
    whole = Run(tmp_path / "whole", CONFIG)
    for step in range(1, 6):
        whole.log(step, reward=step / 10)
    stopped = Run(tmp_path / "stopped", CONFIG)
    for step in range(1, 5):  # the checkpoint is of step 2
        stopped.log(step, reward=step / 10)
    with (tmp_path / "stopped/metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "rew')
    again = Run(tmp_path / "stopped", CONFIG)
    again.rewind(2, whole.metrics()[:2])
    for step in range(3, 6):
        again.log(step, reward=step / 10)
    for name in ("metrics.jsonl", "metrics.csv"):
        assert (tmp_path / "stopped" / name).read_text() == (tmp_path / "whole" / name).read_text()


SUMMARY = {
    "benchmark": "cvbench",
    "n": 4,
    "aggregates": {"official": {"value": 0.5, "interval": [0.2, 0.8], "n": 4}},
    "tasks": {"Count": {"n": 4, "accuracy": 0.5, "interval": [0.2, 0.8], "chance": 0.25}},
}


def test_rewinding_keeps_completions_up_to_the_step(tmp_path):
    run = Run(tmp_path, CONFIG)
    run.add_completions([{"step": step, "completions": ["A"]} for step in (1, 2, 2, 3)])
    run.rewind(2, [])
    assert [row["step"] for row in read_lines(tmp_path / "completions.jsonl")] == [1, 2, 2]
    run.rewind(0, [])
    assert read_lines(tmp_path / "completions.jsonl") == []


def test_a_damaged_line_of_metrics_is_restored_from_the_checkpoint(tmp_path, capsys):
    run = Run(tmp_path, CONFIG)
    for step in (1, 2, 3):
        run.log(step, reward=step / 10)
        run.add_completions([{"step": step}])
    rows = run.metrics()[:2]
    for name in ("metrics.jsonl", "completions.jsonl"):
        lines = (tmp_path / name).read_text().splitlines()
        (tmp_path / name).write_text("\n".join([lines[0][:5], *lines[1:]]) + "\n")
    again = Run(tmp_path, CONFIG)  # the damage blocks nothing
    again.rewind(2, rows)
    assert again.metrics() == rows and read_lines(tmp_path / "completions.jsonl") == [{"step": 2}]
    assert "damaged lines (metrics.jsonl 1, completions.jsonl 1)" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["[]", '{"arguments": null}', '"text"', "{}"])
def test_a_config_of_another_shape_is_one_line(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match="config.json is damaged .*; delete the folder"):
        Run(tmp_path, CONFIG)


def test_a_resumed_run_records_what_changed_around_it(tmp_path, capsys, monkeypatch):
    Run(tmp_path, CONFIG)
    Run(tmp_path, CONFIG)
    assert "resuming" not in capsys.readouterr().out
    now = environment() | {"device": "another card"}
    now |= {"versions": now["versions"] | {"torch": "9.9"}}
    monkeypatch.setattr(run_folder, "environment", lambda: now)
    for _ in range(2):
        Run(tmp_path, CONFIG)
    printed = capsys.readouterr().out
    assert printed.count("resuming what was made with") == 1 and "(now another card)" in printed
    assert f"torch {environment()['versions']['torch']} (now 9.9)" in printed
    (resumed,) = json.loads((tmp_path / "config.json").read_text())["resumed"]
    assert resumed["device"] == "another card"


def test_one_process_at_a_time_holds_a_folder(tmp_path):
    hold = "import sys, time; from spatialvlm.run_folder import Run; "
    hold += "run = Run(sys.argv[1], {}); print(1, flush=True)"
    other = subprocess.Popen(
        [sys.executable, "-c", f"{hold}; time.sleep(60)", tmp_path], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert other.stdout.read(1) == b"1"
    with pytest.raises(UserError, match="another process is writing to .*; wait for it"):
        Run(tmp_path, {})
    other.kill()  # a dead process keeps nothing
    other.wait()
    first, second = Run(tmp_path, {}), Run(tmp_path, {})  # within a process both may
    assert copy.copy(first).folder == second.folder


def test_a_file_system_without_locks_is_said_once_and_other_errors_are_not_hidden(
    tmp_path, monkeypatch, capsys
):
    def refuse(number):
        def lockf(*_):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "lockf", lockf)

    refuse(errno.ENOLCK)
    for name in ("run", "run/base"):
        Run(tmp_path / name, {})
    assert capsys.readouterr().out.count("this file system has no locks (No locks available)") == 1
    refuse(errno.EIO)
    with pytest.raises(UserError, match="cannot write .*other"):
        Run(tmp_path / "other", {})


def test_summary_as_json_and_as_a_table(tmp_path):
    run = Run(tmp_path, CONFIG)
    assert run.summary() is None
    run.write_summary(SUMMARY)
    assert run.summary() == SUMMARY
    official, count = read_csv(tmp_path / "summary.csv")
    assert official["name"] == "official" and count["name"] == "Count"
    assert (count["n"], count["value"], count["low"], count["high"]) == ("4", "0.5", "0.2", "0.8")
    assert count["chance"] == "0.25"


def test_a_write_that_fails_leaves_the_earlier_file_whole(tmp_path, monkeypatch):
    run = Run(tmp_path, CONFIG)
    run.write_summary(SUMMARY)

    def refuse(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(UserError, match="cannot write .*summary.json"):
        run.write_summary(SUMMARY | {"n": 5})
    assert run.summary() == SUMMARY


@pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="this system has no /dev/full, the disk without space"
)
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    run = Run(tmp_path, CONFIG)
    run.add_predictions(ROWS)
    (tmp_path / "predictions.jsonl").rename(tmp_path / "kept.jsonl")
    (tmp_path / "predictions.jsonl").symlink_to("/dev/full")
    with pytest.raises(UserError, match="no space left to write .*predictions.jsonl; free some") as caught:
        run.add_predictions([{"id": "c"}])
    assert "\n" not in str(caught.value)
    (tmp_path / "kept.jsonl").replace(tmp_path / "predictions.jsonl")
    assert Run(tmp_path, CONFIG).predictions() == ROWS


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write .*file.*--output_dir"):
        Run(tmp_path / "file" / "run", CONFIG)


def test_fingerprint_tells_states_apart(tmp_path):
    assert fingerprint("owner/name-on-the-hub") is None
    file = tmp_path / "a" / "weights"
    file.parent.mkdir()
    file.write_text("one")
    first = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == first != fingerprint(file)
    file.write_text("another")
    second = fingerprint(tmp_path)
    os.utime(file, ns=(0, 0))
    assert len({first, second, fingerprint(tmp_path)}) == 3


@pytest.mark.parametrize("kind", ["models", "datasets"])
def test_fingerprint_of_a_hub_id_is_the_revision_in_the_cache(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert fingerprint("owner/name") is None
    refs = tmp_path / f"{kind}--owner--name" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("0123abc\n")
    assert fingerprint("owner/name") == "0123abc"


def test_fresh_folder_overwrites_no_run(tmp_path):
    assert fresh_folder(tmp_path / "v2") == tmp_path / "v2"
    Run(tmp_path / "v2", CONFIG)
    Run(tmp_path / "v2-2", CONFIG)
    assert fresh_folder(tmp_path / "v2") == tmp_path / "v2-3"
