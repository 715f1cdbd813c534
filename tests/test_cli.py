"""The command line: flags over YAML over defaults, and one line for a user's mistake."""

from dataclasses import dataclass, field

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


@pytest.mark.parametrize(
    "arguments", [["--stepz", "3"], ["--steps", "three"], ["--config", "gone.yaml"], ["--steps"]]
)
def test_bad_arguments_end_in_exit_code_2_without_a_traceback(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.run(main, Args, arguments)
    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert "rror:" in printed and "Traceback" not in printed


def test_an_unknown_name_in_the_file_is_an_error(tmp_path, capsys):
    file = tmp_path / "run.yaml"
    file.write_text("stepz: 7\n")
    with pytest.raises(SystemExit) as caught:
        cli.run(main, Args, ["--config", str(file)])
    assert caught.value.code == 2
    assert "stepz" in capsys.readouterr().err


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
