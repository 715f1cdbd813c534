"""The command line: flags over YAML over defaults, and one line for a user's mistake."""

import sys
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest

from spatialvlm import cli
from spatialvlm.errors import UserError


@dataclass
class Args:
    steps: int = field(default=3, metadata={"help": "how many steps"})
    name: str | None = field(default=None, metadata={"help": "a name"})
    fast: bool = field(default=False, metadata={"help": "hurry"})


def main(args):
    return args


def test_defaults_and_flags():
    assert cli.run(main, Args, []) == Args()
    assert cli.run(main, Args, ["--steps", "5", "--name", "x", "--fast"]) == Args(5, "x", True)


def test_a_flag_goes_over_the_file(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("steps: 7\nname: from the file\n")
    assert cli.run(main, Args, ["--config", str(file)]) == Args(7, "from the file")
    assert cli.run(main, Args, ["--config", str(file), "--steps", "9"]) == Args(9, "from the file")


class Base:
    BY_PROFILE: ClassVar = {"data": {"paper": "owner/rows", "embedded": "embedded"}}
    FLAG_GROUP: ClassVar = "model"


@dataclass
class Grouped(Base):
    """Flags of each kind."""

    profile: Literal["auto", "paper"] = field(default="auto", metadata={"help": "which twin"})
    data: str | None = field(default=None, metadata={"help": "where the questions are"})
    max_steps: int = field(default=3, metadata={"help": "updates"})
    test_base: bool = field(default=True, metadata={"help": "before training, too"})
    parts: list[str] = field(default_factory=lambda: ["a", "b"], metadata={"help": "layers, 50 % of them"})
    seed: int = field(default=0, metadata={"help": "of everything"})


def test_help_shows_commands_as_they_are_groups_and_defaults_that_apply(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(
        sys.modules[__name__], "__doc__", "Train.\n\npython a.py    # GPU\npython a.py b  # CPU\n"
    )
    (tmp_path / "paper.yaml").write_text("profile: paper\nmax_steps: 1000\nseed: 1\n")
    (tmp_path / "embedded.yaml").write_text("profile: embedded\nmax_steps: 60\nseed: 1\n")
    with pytest.raises(SystemExit) as ended:
        cli.run(main, Grouped, ["--help"], default_config=lambda profile: tmp_path / f"{profile}.yaml")
    printed = capsys.readouterr().out
    assert ended.value.code == 0
    assert printed.startswith("Train.\n\npython a.py    # GPU\npython a.py b  # CPU\n\n")
    for line in (
        "which twin (default: auto)",
        "where the questions are (default: owner/rows; embedded: embedded)",
        "updates (default: 1000; embedded: 60)",
        "before training, too (default: true)",
        "layers, 50 % of them (default: a b)",
        "of everything (default: 1)",
    ):
        assert line in printed
    assert printed.index("\ndata:\n") < printed.index("\nthis script:\n") < printed.index("\nrun:\n")
    assert "--max-steps" not in printed and printed.count("--test_base") == 1
    assert cli.run(main, Grouped, ["--max-steps", "5", "--test_base", "false"]).max_steps == 5
    with pytest.raises(SystemExit):
        cli.run(main, Grouped, ["--config", str(tmp_path / "embedded.yaml"), "-h"])
    assert "updates (default: 60)" in capsys.readouterr().out


def failing(args):
    raise UserError("scenes.json is not JSON; fetch it again")


def interrupted(args):
    raise KeyboardInterrupt


def broken(args):
    raise ZeroDivisionError


def test_a_users_mistake_is_one_line_and_exit_code_2(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.run(failing, Args, [])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: scenes.json is not JSON; fetch it again\n"


def test_a_byte_0_in_a_name_is_seen(capsys):
    def missing(args):
        raise UserError("image a\0b.png is missing")

    with pytest.raises(SystemExit):
        cli.run(missing, Args, [])
    assert capsys.readouterr().err == "error: image a\\x00b.png is missing\n"


@pytest.mark.parametrize(
    "arguments", [["--stepz", "3"], ["--steps", "three"], ["--config", "gone.yaml"], ["--steps"]]
)
def test_bad_arguments_end_in_exit_code_2_without_a_traceback(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.run(main, Args, arguments)
    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert "rror:" in printed and "Traceback" not in printed


def test_unknown_flags_are_named_in_one_line(tmp_path, capsys):
    (tmp_path / "run.yaml").write_text("stepz: 7\n")
    for arguments, message in (
        (["--stepz", "3"], "these are no flags of this script: --stepz 3; see --help"),
        (
            ["--config", str(tmp_path / "run.yaml")],
            "--config names no flags of this script: --stepz 7; see --help",
        ),
    ):
        with pytest.raises(SystemExit):
            cli.run(main, Args, arguments)
        assert capsys.readouterr().err == f"error: {message}\n"


def test_an_unknown_name_in_the_file_is_an_error(tmp_path, capsys):
    file = tmp_path / "run.yaml"
    file.write_text("stepz: 7\n")
    with pytest.raises(SystemExit) as caught:
        cli.run(main, Args, ["--config", str(file)])
    assert caught.value.code == 2
    assert "stepz" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["steps: 7".encode("utf-16"), b"name: caf\xe9", b"\xff"])
def test_a_file_in_another_encoding_is_named(tmp_path, capsys, content):
    file = tmp_path / "run.yaml"
    file.write_bytes(content)
    with pytest.raises(SystemExit) as caught:
        cli.run(main, Args, ["--config", str(file)])
    assert caught.value.code == 2
    assert f"error: --config {file} is not UTF-8" in capsys.readouterr().err


@dataclass
class ResumableArgs(Args):
    resume: str | None = None


@pytest.mark.parametrize(
    ("args", "advice"), [(Args, "the same command to"), (ResumableArgs, "the same command with --resume to")]
)
def test_an_interruption_says_how_to_continue(args, advice, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.run(interrupted, args, [])
    assert caught.value.code == 130
    assert f"stopped; run {advice} continue where it stopped" in capsys.readouterr().err


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        cli.run(broken, Args, [])
