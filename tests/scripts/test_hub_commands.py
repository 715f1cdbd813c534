"""The published commands on a hub that serves the published layout: what they fetch, and what they record."""

from __future__ import annotations

import json

import hub_rows
import pytest
from commands import refused, run_fresh, run_here
from hub_server import HubServer

SAT, CVBENCH, VALB = "array/SAT", "nyu-visionx/CV-Bench", "MMInstruction/Clevr_CoGenT_ValB"
VSR = "cambridgeltl/vsr_random"
GRPO = "model/pali_sat_grpo.py"
EMBEDDED = ("--profile", "embedded", "--output_dir", "run")


def config(folder) -> dict:
    return json.loads((folder / "config.json").read_text())


def summary(folder) -> dict:
    return json.loads((folder / "summary.json").read_text())


def fetched(server: HubServer) -> set[str]:
    return {path for _, path in server.sent} - {"README.md"}


@pytest.mark.slow
def test_grpo_on_sat_and_cvbench(tmp_path):
    with HubServer() as server:
        content = hub_rows.sat(2500, padding=8000, broken=9)
        commit = server.add(SAT, content)
        test = server.add(CVBENCH, hub_rows.cvbench(4))
        flags = "--train_limit 150 --max_steps 1 --prompts_per_device 4 --eval_limit 8 --test_base false"
        data = ["--data", SAT, "--eval_data", f"{CVBENCH}@main"]
        environment = server.environment(tmp_path)
        run_fresh(GRPO, *EMBEDDED, *flags.split(), *data, folder=tmp_path, environment=environment)
        assert fetched(server) == {"SAT_train.parquet", "test_2d.parquet", "test_3d.parquet"}
        size = len(content["SAT_train.parquet"])  # 200 of 2,500 rows, and what is fetched together
        assert size > 40e6 and server.sent[SAT, "SAT_train.parquet"] < size * 200 / 2500 + 14e6
        recorded = config(tmp_path / "run")["data"]
        assert recorded == {"path": SAT, "revision": commit, "set": "SAT", "excluded": {"broken image": 1}}
        assert config(tmp_path / "run/trained")["data"]["revision"] == test


@pytest.mark.slow
def test_evaluations(hub, tmp_path):
    sat = hub.add(SAT, hub_rows.sat())
    hub.add("array/SAT-v2", hub_rows.sat_v2())
    old = hub.add(CVBENCH, hub_rows.cvbench(1))
    hub.add(CVBENCH, hub_rows.cvbench(2))
    hub.add(VALB, hub_rows.cogent())

    run_here("eval_paligemma_cvbench.py", *EMBEDDED, "--data", CVBENCH, folder=tmp_path)
    assert summary(tmp_path / "run")["n"] == 8 and fetched(hub) == {"test_2d.parquet", "test_3d.parquet"}
    command = ("--profile", "embedded", "--output_dir", "old", "--data", f"{CVBENCH}@{old}")
    run_here("eval_paligemma_cvbench.py", *command, folder=tmp_path)
    assert summary(tmp_path / "old")["n"] == 4 and config(tmp_path / "old")["data"]["revision"] == old

    hub.reset()
    for name in (SAT, "array/SAT-v2"):
        command = ("--profile", "embedded", "--output_dir", f"out/{name}", "--data", name)
        run_here("eval_paligemma_sat.py", *command, folder=tmp_path)
        assert summary(tmp_path / "out" / name)["n"] == 12  # six questions in both orders
        assert (
            summary(tmp_path / "out" / name)["set"]
            == config(tmp_path / "out" / name)["data"]["set"]
            == name[6:]
        )
    assert fetched(hub) == {"SAT_test.parquet", "data/test-00000-of-00001.parquet"}
    assert config(tmp_path / "out" / SAT)["data"]["revision"] == sat

    hub.reset()
    command = ("--profile", "embedded", "--output_dir", "clevr", "--data", VALB, "--limit", "4")
    run_here("eval_paligemma_clevr.py", *command, folder=tmp_path)
    assert summary(tmp_path / "clevr")["n"] == 4

    link = hub.url + f"/large/photographs/coco/{hub.add('photographs/coco', {})}" + "/{:012}.jpg"
    hub.commits["photographs/coco"][hub.refs["photographs/coco"]["main"]] |= {
        f"{number:012}.jpg": hub_rows.image(number, "jpeg") for number in range(4)
    }
    hub.add(VSR, hub_rows.vsr(link))
    hub.reset()
    command = ("--profile", "embedded", "--output_dir", "vsr", "--data", VSR, "--limit", "3")
    run_here("eval_paligemma_vsr.py", *command, folder=tmp_path)
    assert summary(tmp_path / "vsr")["n"] == 3
    assert fetched(hub) == {"test.jsonl", *(f"{number:012}.jpg" for number in range(3))}


def test_what_the_hub_refuses_ends_in_one_line(hub, tmp_path, capsys):
    hub.add(SAT, hub_rows.sat(broken=2))
    hub.add("owner/gated", {"README.md": ""})
    hub.gated.add("owner/gated")
    embedded = ("--profile", "embedded", "--output_dir", tmp_path / "run", "--data")
    for data, message in {
        "array/SATT": "no such data set, or a private one; check the name, or log in with `hf auth login`",
        f"{SAT}@v2": "array/SAT has no revision 'v2' on the hub",
        "owner/gated": "it is gated: accept its conditions on its page, and log in with `hf auth login`",
        SAT: "array/SAT train row 2 image 0: the image cannot be read",
    }.items():
        assert message in refused(GRPO, *embedded, data, capsys=capsys)
    assert "no split 'tests' on the hub, but train, static, val, test" in refused(
        "eval_paligemma_sat.py", *embedded, SAT, "--split", "tests", capsys=capsys
    )
    assert "array/SAT test row 2 image 0: the image" in refused(
        "eval_paligemma_sat.py", *embedded, SAT, capsys=capsys
    )
    assert not (tmp_path / "run").exists()
