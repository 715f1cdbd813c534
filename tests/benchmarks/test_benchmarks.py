"""The benchmark runs, compares like with like, and says so in one line where it cannot."""

import json
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from trl import GRPOTrainer

from spatialvlm import cli

sys.path.insert(
    0, str(Path(__file__).resolve().parents[2] / "benchmarks")
)  # scripts lie beside what they use

import grpo_step
import measured
import step_profile
import trl_way
import workload

QUICK = "--decoder_layers 1 --vision_layers 1 --prompts 2 --num_generations 2 --completion_length 3 --steps 1"


def run(flags, capsys):
    """(the report, what was printed)"""
    report = cli.run(grpo_step.main, grpo_step.Args, flags.split())
    return report, capsys.readouterr().out


@pytest.mark.slow
def test_three_ways_agree_and_are_compared(tmp_path, capsys):
    report, printed = run(f"{QUICK} --profile_step --output_dir {tmp_path / 'new'}", capsys)
    assert json.loads((tmp_path / "new" / "grpo_step.json").read_text()) == json.loads(json.dumps(report))
    assert report["arguments"]["prompts"] == 2 and report["versions"]["trl"]
    (found,) = report["results"]
    assert found["num_generations"] == 2
    for way in ("plain", "trl", "ours"):
        assert max(found["agreement"][way].values()) < 1e-5
        assert found["ways"][way]["median"] == found["ways"][way]["seconds"][0] > 0
        assert found["ratios"][way] == found["ways"][way]["median"] / found["ways"]["ours"]["median"]
    assert found["ways"]["plain"]["flops"] > 1.5 * found["ways"]["ours"]["flops"]
    assert found["profile"]["floor"].keys() <= found["profile"]["phases"].keys()
    assert "over ours" in printed and step_profile.BACKWARD in printed and str(tmp_path) in printed


@pytest.mark.slow
def test_the_floor_is_little_less_than_what_our_step_multiplies(tmp_path, capsys):
    flags = "--prompts 2 --num_generations 3 --steps 1 --ways ours --profile_step"
    report, _ = run(f"{flags} --output_dir {tmp_path}", capsys)
    (found,) = report["results"]
    floor = sum(found["profile"]["floor"].values()) * report["matrix_flops_per_second"]
    assert 0.99 * floor < found["ways"]["ours"]["flops"] < 1.3 * floor


def test_no_way_reaches_more_than_all_of_the_matrix_rate(tmp_path, monkeypatch, capsys):
    flags = f"{QUICK} --ways ours --profile_step --output_dir {tmp_path}"
    report, printed = run(flags, capsys)
    (found,) = report["results"]
    assert 0 < found["ways"]["ours"]["matrix_share"] <= 1 and found["profile"]["floor"]
    assert "no floor" not in printed
    monkeypatch.setattr(
        grpo_step, "matrix_rate", lambda model: 1e6
    )  # as where it is measured beside other work
    report, printed = run(flags, capsys)
    (found,) = report["results"]
    assert found["ways"]["ours"]["matrix_share"] is None and found["profile"]["floor"] == {}
    assert "no fraction of the matrix rate and no floor" in printed
    assert "| -" in measured.speed(report)


def test_the_matrix_rate_is_the_best_of_the_models_own_products():
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 16))
    model.device, model.dtype = torch.device("cpu"), torch.float32
    products = []
    linear = torch.nn.functional.linear

    def watched(left, right):
        products.append((tuple(left.shape), tuple(right.shape)))
        return linear(left, right)

    with mock.patch.object(torch.nn.functional, "linear", watched):
        assert step_profile.matrix_rate(model, tries=2) > 0
    assert set(products) == {
        ((1024, 1024), (1024, 1024)),
        ((1024, 8), (8, 8)),
        ((1024, 8), (16, 8)),
    }


def test_other_computations_are_not_timed(monkeypatch, capsys):
    """With trl's own token types completion tokens see each other: no figure may come out."""

    def own(self, model, ids, *args, token_type_ids=None, labels=None, **kwargs):
        score = GRPOTrainer._get_per_token_logps_and_entropies
        return score(self, model, ids, *args, token_type_ids=torch.zeros_like(ids), **kwargs)

    monkeypatch.setattr(trl_way.PaliGemmaGRPO, "_get_per_token_logps_and_entropies", own)
    with pytest.raises(RuntimeError, match="not the same computation"):
        run(f"{QUICK} --ways plain trl", capsys)


@pytest.mark.slow
def test_without_trl_the_other_ways_run(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(grpo_step, "trl_version", lambda: "none")
    with pytest.raises(SystemExit) as stop:
        run(QUICK, capsys)
    assert stop.value.code == 2 and "out with --ways plain ours" in capsys.readouterr().err
    report, _ = run(f"{QUICK} --ways plain ours --output_dir {tmp_path}", capsys)
    assert report["results"][0]["ratios"].keys() == {"plain", "ours"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--ways plain fast", "--ways fast: must be plain, trl or ours"),
        ("--num_generations 4 1", "--num_generations 1: a group needs at least 2"),
        ("--prompts 3 --prompts_per_pass 2", "--prompts 3 is no multiple of --prompts_per_pass 2"),
        ("--completion_length 1", "--completion_length must be at least 2, not 1"),
        ("--steps 0", "--steps must be at least 1, not 0"),
        ("--ways plain --profile_step", "add ours to --ways"),
        ("--dtype float16", "--dtype float16 is for GPUs"),
    ],
)
def test_invalid_flags(flags, message, capsys):
    with pytest.raises(SystemExit) as stop:
        run(flags, capsys)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_the_3b_shape_has_a_fitting_processor_and_keeps_its_width():
    config = workload.configuration("paligemma2-3b", decoder_layers=1, vision_layers=2)
    text = config.get_text_config()
    assert (text.hidden_size, text.num_hidden_layers) == (2304, 1)
    assert config.vision_config.num_hidden_layers == 2
    made = workload.processor(text.vocab_size)
    assert len(made.tokenizer) == text.vocab_size and made.image_seq_length == 256


def test_prompts_are_ragged_and_the_same_each_time():
    first, second = workload.examples(6, seed=1), workload.examples(6, seed=1)
    assert [example.prompt for example in first] == [example.prompt for example in second]
    assert len({len(example.prompt.split()) for example in first}) > 2
    assert workload.examples(6, seed=2)[0].prompt != first[0].prompt
