"""Batches that memory does not hold are halved: nothing is lost, and what the failed pass held is free."""

import weakref
from types import SimpleNamespace

import pytest
import torch

from spatialvlm.models.halving import Halving

MODEL = SimpleNamespace(modules=lambda: [])


class Device:
    """Holds batches of at most `most` items, and remembers their sizes."""

    def __init__(self, most):
        self.most, self.sizes, self.held = most, [], []

    def work(self, batch):
        self.sizes.append(len(batch))
        held = torch.zeros(len(batch))
        self.held.append(weakref.ref(held))
        if len(batch) > self.most:
            assert [each() is None for each in self.held[:-1]] == [True] * (len(self.held) - 1)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [f"<{item}>" for item in batch]


def test_a_size_that_failed_is_not_tried_again_and_the_first_time_is_said(capsys):
    device, halving = Device(3), Halving(MODEL, "batch_size", 32)
    assert halving(device.work, "abcdefghijklmnopqr", each=2) == [
        f"<{item}>" for item in "abcdefghijklmnopqr"
    ]
    assert halving(device.work, "xyz", each=2) == ["<x>", "<y>", "<z>"]
    assert device.sizes == [16, 8, 4, *[2] * 9, 2, 1]
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "out of memory in a batch of 32" in line and "--batch_size 16" in line


def test_a_batch_smaller_than_the_size_is_halved_itself(capsys):
    device, halving = Device(3), Halving(MODEL, "sampling_batch_size", 64)
    assert halving(device.work, range(5)) == [f"<{n}>" for n in range(5)]
    assert device.sizes == [5, 2, 2, 1]
    assert "--sampling_batch_size 2 " in capsys.readouterr().err


def test_nothing_is_smaller_than_one_item():
    device = Device(0)
    with pytest.raises(torch.OutOfMemoryError):
        Halving(MODEL, "batch_size", 4)(device.work, "abcd")
    assert device.sizes == [4, 2, 1]


def test_with_enough_memory_batches_have_the_size_that_was_given(capsys):
    device = Device(100)
    assert Halving(MODEL, "batch_size", 10)(device.work, range(5), each=4) == [f"<{n}>" for n in range(5)]
    assert device.sizes == [2, 2, 1] and not capsys.readouterr().err
    assert Halving(MODEL, "batch_size", 2)(device.work, "a", each=4) == ["<a>"]


def test_a_sharded_model_ends_at_once(monkeypatch):
    monkeypatch.setattr("spatialvlm.models.halving.is_sharded", lambda model: True)
    device = Device(2)
    with pytest.raises(torch.OutOfMemoryError):
        Halving(MODEL, "batch_size", 4)(device.work, "abcd")
    assert device.sizes == [4]
