"""Sharing out and ending together; two real processes are in tests/scripts/test_sharded.py."""

import copy
from types import SimpleNamespace

import pytest
import torch
from accelerate import PartialState

from spatialvlm import distributed
from spatialvlm.errors import UserError


def process(monkeypatch, index, count):
    here = SimpleNamespace(process_index=index, num_processes=count, is_main_process=index == 0)
    monkeypatch.setattr(distributed, "state", lambda: here)


@pytest.mark.parametrize("number", [0, 1, 4, 5, 8, 13])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_item_is_dealt_once_in_the_batches_of_one_process(monkeypatch, number, count):
    items, dealt = list(range(number)), []
    for index in range(count):
        process(monkeypatch, index, count)
        dealt.append(distributed.shards(items, 4))
    assert len({len(batches) for batches in dealt}) == 1  # as many rounds, or one would wait for ever
    in_turn = [batch for together in zip(*dealt, strict=True) for batch in together if batch]
    assert in_turn == [items[start : start + 4] for start in range(0, number, 4)]


def test_what_all_found_is_put_together_and_an_error_ends_all(monkeypatch):
    other = (["second"], None)

    def gather(parts, own, group):
        parts[:] = copy.deepcopy([own, other] if distributed.state().is_main_process else [other, own])

    monkeypatch.setattr(torch.distributed, "new_group", lambda **_: "all")
    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    process(monkeypatch, 0, 2)
    first = object()
    together = distributed.agree(lambda: [first])
    assert together[0] is first and together[1:] == ["second"]  # its own result itself, which may hold a lock
    other = ([], "image 7 cannot be read")
    with pytest.raises(UserError, match="^image 7 cannot be read$"):
        distributed.agree(lambda: ["first"])
    process(monkeypatch, 1, 2)
    with pytest.raises(SystemExit) as stop:
        distributed.agree(lambda: ["first"])
    assert stop.value.code == 2


def test_one_process_alone_raises_its_own_error():
    def fail():
        raise UserError("no")

    assert distributed.agree(lambda: [1, 2]) == [1, 2] and distributed.on_main(lambda: "written") == "written"
    for work in (distributed.agree, distributed.on_main):
        with pytest.raises(UserError, match="^no$"):
            work(fail)


@pytest.fixture
def launched_on_cpu(monkeypatch):
    """As a script finds itself under `accelerate launch --cpu --num_processes 2`, on a machine with CUDA."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    PartialState._reset_state()
    yield
    PartialState._reset_state()


def test_a_launch_on_the_cpu_keeps_off_cuda(launched_on_cpu):
    assert distributed.state().device.type == "cpu"


def test_a_launch_of_which_nobody_knows_the_number_says_that_it_is_alone(launched_on_cpu, capsys):
    distributed.start_processes()  # pytest is no `accelerate launch`: it has no --num_processes
    assert "--num_processes in the command" in capsys.readouterr().err


def test_nothing_is_started_without_being_asked_for(monkeypatch):
    monkeypatch.setattr("os.execv", lambda *_: pytest.fail("started"))
    process(monkeypatch, 0, 2)
    distributed.start_processes()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    distributed.start_processes()
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setenv("WORLD_SIZE", "2")
    distributed.start_processes()
