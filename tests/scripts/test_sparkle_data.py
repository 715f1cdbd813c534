"""make_data/sparkle.py: what it writes, what `datasets` and our readers read of it, and what is refused."""

from __future__ import annotations

import runpy
import sys

import datasets
import huggingface_hub
import pytest
from commands import ROOT, refused, run

from spatialvlm.tasks.sparkle import composite as sparkle_composite
from spatialvlm.tasks.sparkle import data as sparkle

MAKE = "make_data/sparkle.py"
FEW = ("--form", "embedded", "--configurations", "4", "--test_items", "2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small data set, made by the command from another folder."""
    here = tmp_path_factory.mktemp("sparkle")
    printed = run(MAKE, *FEW, "--output_dir", "made", folder=here)
    assert printed.startswith("68 train, 800 validation, 32 test, 10 composite questions written to made in")
    return here / "made"


def test_the_hub_form_is_what_datasets_reads(folder, tmp_path):
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {
        "train": 68,
        "validation": 800,
        "test": 32,
        "composite": 10,
    }
    made = sparkle.load("embedded", "train", configurations=4)
    for row, example in zip(loaded["train"], made, strict=True):
        assert (row["id"], row["prompt"], row["answer"]) == (example.id, example.prompt, example.answer)
        assert row["image"].size == (126, 126) and row["image"].tobytes() == example.images[0].tobytes()
    loaded.save_to_disk(str(tmp_path / "saved"))
    for where in (folder, tmp_path / "saved"):
        read = sparkle.load(where, "train")
        assert [example.meta for example in read] == [example.meta for example in made]
        assert read[30].open_images()[0].tobytes() == made[30].images[0].tobytes()
        tests = sparkle_composite.load(where)
        originals = sparkle_composite.load("embedded", items=2)
        assert [(e.id, e.answer, e.meta) for e in tests] == [(e.id, e.answer, e.meta) for e in originals]


def test_the_card_tells_splits_tasks_and_settings(folder):
    card = huggingface_hub.DatasetCard.load(folder / "README.md")
    splits = [part["split"] for part in card.data.to_dict()["configs"][0]["data_files"]]
    assert splits == ["train", "validation", "test", "composite"]
    assert card.data.license == "apache-2.0" and card.data.size_categories == ["n<1K"]
    for told in (
        "| location_cell |",
        "| path_4x4_removed |",
        "| all | | 68 | 800 | 32 | 10 |",
        "- `width`: 126",
        "- `pairs`: 17",
    ):
        assert told in card.text, told


def test_one_image_is_stored_once(folder):
    rows = sparkle.load(folder, "train")
    sizes = [len(image_bytes(example)) for example in rows]
    assert len({image_bytes(example) for example in rows}) == 4
    assert (folder / sparkle.file_name("train")).stat().st_size < sum(sizes) / 2


def image_bytes(example) -> bytes:
    example.images[0].fp.seek(0)
    return example.images[0].fp.read()


def started(monkeypatch, tmp_path, *flags) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [MAKE, *FEW, "--num_workers", "1", *flags])
    runpy.run_path(str(ROOT / MAKE), run_name="__main__")


def test_an_ablation_in_another_style(tmp_path, monkeypatch):
    flags = ["--capabilities", "distance", "--numbers", "false", "--style", "background=beige", "width=56"]
    started(monkeypatch, tmp_path, *flags, "--seed", "3")
    rows = sparkle.load(tmp_path / "results/sparkle_data/embedded-3", "train")
    assert {row.task for row in rows} == {
        f"distance_{kind}" for kind in ("farther", "nearest", "farthest", "order")
    }
    assert len(rows) == 4 * 5 and rows[0].open_images()[0].size == (56, 56)
    assert rows[0].open_images()[0].getpixel((0, 0)) == (245, 245, 220)


def test_push_sends_the_whole_folder(folder, monkeypatch, capsys):
    sent = []
    monkeypatch.setattr(
        huggingface_hub.HfApi, "create_repo", lambda hub, name, **how: sent.append((name, how))
    )
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", lambda hub, **what: sent.append(what))
    runpy.run_path(str(ROOT / MAKE))["push"](folder, "me/sparkle")
    assert sent == [
        ("me/sparkle", {"repo_type": "dataset", "exist_ok": True}),
        {"folder_path": str(folder), "repo_id": "me/sparkle", "repo_type": "dataset"},
    ]
    assert "https://huggingface.co/datasets/me/sparkle" in capsys.readouterr().out


def test_what_the_hub_refuses_is_said_and_the_folder_stays(tmp_path, monkeypatch, capsys):
    def refuse(hub, name, **how):
        raise OSError("401 Unauthorized\nand more")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuse)
    flags = [*FEW, "--num_workers", "1", "--push_to_hub", "me/sparkle", "--output_dir", tmp_path / "made"]
    line = refused(MAKE, *flags, capsys=capsys)
    assert "--push_to_hub me/sparkle: 401 Unauthorized; log in" in line and "and more" not in line
    assert (tmp_path / "made/README.md").is_file()


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--max_nodes", "90"], "nodes at least 2.3 units apart do not fit on the 10 x 10 plane"),
        (["--min_nodes", "3"], "nodes from 3 to 5"),
        (["--min_nodes", "0"], "nodes from 0 to 5"),
        (["--max_nodes", "0"], "nodes from 0 to 0"),
        (["--gap", "1"], "gap 1.0: nodes of radius 0.85 overlap"),
        (["--removed", "1"], "--removed 1.0: must be a fraction"),
        (["--removed", "0.97"], "--removed 0.97 leaves no path"),
        (["--capabilities", "vision"], "--capabilities vision: must be some of direction, distance"),
        (["--style", "width=2"], "--style width=2: must be 28 to 4096 pixels"),
        (["--style", "sparkles"], "--style sparkles: must be name=value"),
        (["--pairs", "0"], "--pairs must be at least 1"),
        (["--pairs", "400"], "lower --pairs"),
        (["--test_items", "0"], "--test_items must be at least 1"),
        (["--form", "huge"], "--form"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, flags, message, capsys):
    few = FEW[2:] if "--form" in flags else FEW
    line = refused(MAKE, *few, *flags, "--num_workers", "1", "--output_dir", tmp_path / "made", capsys=capsys)
    assert message in line
    assert not (tmp_path / "made").exists()


def test_a_folder_that_is_there_is_not_written_into(folder, capsys):
    assert f"{folder} is there already" in refused(MAKE, *FEW, "--output_dir", folder, capsys=capsys)
