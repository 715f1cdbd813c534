"""What is written is whole or not there at all."""

import errno
import fcntl
import os

import pytest

from spatialvlm.disk import disk_errors, locked, remove, unfinished, whole, write_json
from spatialvlm.errors import UserError


def test_an_error_leaves_what_was_there(tmp_path):
    file = tmp_path / "deep" / "rows.npz"
    write_json(file, [1])
    with pytest.raises(ZeroDivisionError), whole(file) as aside:
        aside.write_text("half")
        raise ZeroDivisionError
    assert [path.name for path in file.parent.iterdir()] == ["rows.npz"] and file.read_text() == "[\n  1\n]\n"


@pytest.mark.parametrize("shared", [False, True])
def test_a_folder_is_replaced_unless_it_is_shared(tmp_path, shared):
    for name in ("first", "second"):
        with whole(tmp_path / "frames", shared) as aside:
            aside.mkdir()
            (aside / name).touch()
    (there,) = tmp_path.iterdir()
    assert [file.name for file in there.iterdir()] == ["first" if shared else "second"]


def test_what_a_kill_left_is_removed(tmp_path):
    left = unfinished(tmp_path / "data")
    left.mkdir()
    (left / "half").touch()
    with whole(tmp_path / "data") as aside:
        assert not aside.exists()
        aside.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    remove(tmp_path / "data"), remove(tmp_path / "data")
    assert not list(tmp_path.iterdir())


def test_shared_writers_do_not_meet(tmp_path):
    with whole(tmp_path / "a.png", shared=True) as aside:
        assert str(os.getpid()) in aside.name and aside.suffix == ".png"
        aside.touch()


@pytest.mark.parametrize(
    ("code", "says"), [(errno.ENOSPC, "no space left to write"), (errno.EACCES, "denied")]
)
def test_a_refusing_disk_is_one_line_with_its_remedy(tmp_path, code, says):
    with pytest.raises(UserError, match=says) as raised, disk_errors(tmp_path, "set HOME elsewhere"):
        raise OSError(code, os.strerror(code))
    assert str(raised.value).endswith("set HOME elsewhere")
    assert ("--resume" in str(raised.value)) == (code == errno.ENOSPC)


def test_work_goes_on_without_locks_and_other_errors_are_not_hidden(tmp_path, monkeypatch):
    def refuse(number):
        def lockf(*_):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "lockf", lockf)

    refuse(errno.ENOLCK)
    with locked(tmp_path / "lock"):
        pass
    refuse(errno.EIO)
    with pytest.raises(OSError, match="Input/output error"), locked(tmp_path / "lock"):
        pass
