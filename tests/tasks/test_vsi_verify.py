"""VSI-Bench's answers from its own annotation: all of the real sample, and single questions by hand."""

import json
import runpy
import sys

import pytest

from spatialvlm.errors import UserError
from spatialvlm.tasks.vsi import questions as vsi_questions
from spatialvlm.tasks.vsi import verify as vsi_verify
from spatialvlm.worlds import annotation
from spatialvlm.worlds.annotation import Box, SceneAnnotation


def test_vsibenchs_answers_follow_from_its_annotation(real_data):
    folder = real_data / "vsi"
    found = vsi_verify.verify(
        str(folder / "scannet_meta_info_val.json"), str(folder / "vsi_bench_scannet.jsonl")
    )
    assert sum(count["n"] for count in found.values()) == 2071 and found[vsi_verify.UNKNOWN]["n"] == 0
    for kind in (
        "object_size_estimation",
        "room_size_estimation",
        *vsi_questions.DIRECTION_WORDS,
        "object_rel_distance",
    ):
        assert found[kind]["agree"] == found[kind]["answerable"] >= 0.9 * found[kind]["n"] > 50
    assert found["object_counting"]["agree"] >= 0.98 * found["object_counting"]["answerable"] > 200
    assert found["object_abs_distance"]["agree"] >= 0.97 * found["object_abs_distance"]["answerable"] > 300
    assert not found["route_planning"]["answerable"] and not found["obj_appearance_order"]["answerable"]


FOUR = ["sofa", "lamp", "cup", "tv"]


def asked(
    id: int, kind: str, truth: str, labels: tuple[str, ...], options=None, scene="scene0000_00"
) -> dict:
    """A row of VSI-Bench."""
    row = {"id": id, "dataset": "scannet", "scene_name": scene, "question_type": kind, "ground_truth": truth}
    lettered = (
        [f"{letter}. {text}" for letter, text in zip("ABCD", options, strict=False)] if options else None
    )
    return row | {"question": vsi_questions.TEMPLATES[kind].format(*labels), "options": lettered}


@pytest.fixture
def bench(tmp_path):
    """Writes rows; gives the names of the files, annotation and questions, of one small room."""
    places = {"bed": [(0, 0, 0)], "sofa": [(0, 3, 0)], "lamp": [(-3, 0, 0)], "tv": [(5, 0, 0)]}
    places["cup"] = [(2, 0, 0), (0.9, 3, 0)]
    objects = {
        label: tuple(Box.oriented(at, (1, 0.5, 0.5)) for at in spots) for label, spots in places.items()
    }
    counts = {label: len(boxes) for label, boxes in objects.items()}
    room = SceneAnnotation("scene0000_00", 20.0, counts, objects)
    meta_info, questions = tmp_path / "meta.json", tmp_path / "test.jsonl"
    meta_info.write_text(json.dumps(annotation.to_meta_info([room])))

    def write(*rows: dict) -> tuple[str, str]:
        questions.write_text("\n".join(map(json.dumps, rows)))
        return str(meta_info), str(questions)

    return write


@pytest.mark.parametrize(
    "kind, truth, labels, options, agrees",
    [
        ("object_counting", "2", ("cup",), None, True),
        ("object_counting", "3", ("cup",), None, False),
        ("object_counting", "3", ("ghost",), None, None),
        ("object_size_estimation", "101", ("bed",), None, True),
        ("object_size_estimation", "102", ("bed",), None, False),
        ("object_size_estimation", "100", ("cup",), None, None),
        ("room_size_estimation", "20.1", (), None, True),
        ("room_size_estimation", "20.2", (), None, False),
        ("object_abs_distance", "2.5", ("bed", "sofa"), None, True),
        ("object_abs_distance", "2.7", ("bed", "sofa"), None, False),
        ("object_abs_distance", "1.0", ("bed", "cup"), None, True),
        ("object_rel_distance", "C", ("bed", "sofa", "lamp", "cup", "tv"), FOUR, True),
        ("object_rel_distance", "B", ("bed", "sofa", "lamp", "cup", "tv"), FOUR, False),
        ("object_rel_distance", "B", ("sofa", "bed", "lamp", "cup", "ghost"), FOUR, None),
        ("object_rel_direction_easy", "A", ("bed", "sofa", "lamp"), ["left", "right"], True),
        ("object_rel_direction_medium", "B", ("bed", "sofa", "lamp"), ["left", "right", "back"], False),
        ("object_rel_direction_hard", "A", ("sofa", "bed", "lamp"), ["front-right", "back-left"], True),
        ("object_rel_direction_easy", "A", ("bed", "sofa", "cup"), ["left", "right"], None),
    ],
)
def test_one_question_answered_anew(bench, kind, truth, labels, options, agrees):
    row = asked(0, kind, truth, labels, options)
    counts = vsi_verify.verify(*bench(row))[kind]
    assert counts == {"n": 1, "answerable": int(agrees is not None), "agree": int(agrees is True)}


def command(monkeypatch, *flags: str) -> None:
    """Run `python -m spatialvlm.tasks.vsi.verify` in this process."""
    monkeypatch.setattr(sys, "argv", ["verify", *flags])
    monkeypatch.delitem(sys.modules, vsi_verify.__name__, raising=False)
    runpy.run_module(vsi_verify.__name__, run_name="__main__")


def test_the_check_as_a_command(bench, monkeypatch, capsys):
    row = asked(0, "object_counting", "2", ("cup",))
    files = bench(row, asked(1, "object_counting", "9", ("cup",), scene="scene0009_00"))
    flags = ["--meta_info", files[0], "--questions", files[1]]
    command(monkeypatch, *flags, "--json")
    one, none = {"n": 1, "answerable": 1, "agree": 1}, {"n": 1, "answerable": 0, "agree": 0}
    assert json.loads(capsys.readouterr().out) == {"object_counting": one, "unknown_scene": none}
    command(monkeypatch, *flags)
    printed = capsys.readouterr().out
    assert (
        "object_counting" in printed and "100.0" in printed and "of scenes without annotation: 1" in printed
    )


@pytest.mark.parametrize(
    "change, message",
    [
        ({"ground_truth": "0"}, "'ground_truth' must be a number above 0, not '0'"),
        ({"question": " "}, "'question' must be a text"),
        ({"scene_name": "scene0009_00"}, "has no question about a scene of .*meta.json"),
    ],
)
def test_questions_that_cannot_be_checked_are_named(bench, change, message, monkeypatch, capsys):
    files = bench(asked(0, "object_counting", "2", ("cup",)) | change)
    with pytest.raises(UserError, match=message):
        vsi_verify.verify(*files)
    with pytest.raises(SystemExit, match="2"):
        command(monkeypatch, "--meta_info", files[0], "--questions", files[1])
    assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(SystemExit, match="2"):
        command(monkeypatch, "--meta_info", files[0])
    assert "--questions" in capsys.readouterr().err
