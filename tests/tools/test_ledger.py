"""Storages are counted once, as long as they live, under the right part; operations as torch records them."""

import gc
import json
from contextlib import nullcontext

import pytest
import torch
from ledger import Ledger, as_on_cuda
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

MIB = 2**20


@pytest.fixture
def ledger():
    return Ledger(vocabulary_size=512)


def empty(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device="meta")


def test_a_storage_counts_once_and_until_nothing_holds_it(ledger):
    with ledger:
        x = empty(1024, 256)
        assert ledger.total == MIB
        view = x.t()[5:]
        x.mul_(2)
        assert ledger.total == MIB
        y = x + 1
        assert ledger.total == 2 * MIB
        del x, y
        assert ledger.total == MIB, "the view holds its storage"
        del view
    assert ledger.total == 0 and not ledger.alive.total()


def test_what_backward_needs_is_held_by_the_graph(ledger):
    with ledger:
        x = empty(1024, 256).requires_grad_()
        loss = x.exp().tanh().sum()
        assert ledger.total == 3 * MIB + 4
        loss.backward()
        assert ledger.total == 2 * MIB + 4, "x and its gradient"


def test_peaks_are_of_their_phase_and_a_resumed_one_keeps_the_higher(ledger):
    with ledger:
        x = empty(1024, 256)
        ledger.begin("first")
        y = x.repeat(3, 1)
        del y
        ledger.begin("second")
        y = x + 1
        ledger.begin("first")
        z = y + 1
    totals = {phase: sum(parts.values()) for phase, parts in ledger.peaks.items()}
    assert totals == {"": MIB, "first": 4 * MIB, "second": 2 * MIB} and z.nbytes == MIB


def test_parts(ledger):
    with ledger:
        x = empty(1024, 256)
        scores = empty(1024, 512)
        ledger.label(x, "KV cache")
        ledger.outside = "backward"
        y = x + 1
    assert ledger.alive == {"KV cache": MIB, "logits": 2 * MIB, "backward": MIB, "other": 0}
    assert y.nbytes + scores.nbytes == 3 * MIB


def test_what_is_known_is_computed_and_what_depends_on_content_is_yes(ledger):
    ids, features = torch.tensor([[1, 2, 2]]), empty(2, 4)
    with ledger:
        assert int((ids == 2).sum()) == 2
        assert (features.isfinite().all()) and not torch.zeros(2).any()
        mixed = (features + torch.ones(2, 1)).argmax(-1)
        assert mixed.is_meta and bool((mixed == 5).any())


def most_allocated(work, folder):
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as made:
        work()
    made.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    now = most = 0
    for event in sorted((e for e in events if e["name"] == "[memory]"), key=lambda e: e["ts"]):
        now += event["args"]["Bytes"]
        most = max(most, now)
    return most


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x.logsumexp(-1),
        lambda x: x.log_softmax(-1),
        lambda x: functional.softmax(x.bfloat16(), -1, dtype=torch.float32),
        lambda x: functional.dropout(x, 0.1),
        lambda x: functional.cross_entropy(x, torch.zeros(len(x), dtype=torch.long)),
        lambda x: functional.gelu(x, approximate="tanh"),
        lambda x: x.double().exp().cumsum(-1),
        lambda x: torch.cat([x, x]).repeat_interleave(2, 0),
        lambda x: x.view(4, 2, 64, 512) @ x.view(4, 2, 512, 64),
        lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6),
        lambda x: functional.linear(x.masked_fill(x.new_zeros(512, dtype=torch.bool), 0.0), x),
    ],
)
def test_an_operation_takes_what_torch_records(operation, ledger, tmp_path):
    def step(x):
        made = operation(x)
        made.backward(torch.ones_like(made))

    torch.manual_seed(0)
    real = torch.randn(512, 512, requires_grad=True)
    taken = most_allocated(lambda: step(real), tmp_path)
    with ledger:
        x = empty(512, 512).requires_grad_()
        step(x)
    assert sum(ledger.peaks[""].values()) - x.nbytes == pytest.approx(taken, rel=0.02)


def test_a_gpu_does_in_one_kernel_what_a_cpu_does_in_several(ledger):
    half = empty(1024, 1024, dtype=torch.float16)
    as_they_are = functional.softmax, functional.dropout
    found = {}
    with ledger:
        for name, mode in (("cpu", nullcontext()), ("gpu", as_on_cuda())):
            with mode:
                ledger.begin(f"softmax {name}")
                functional.softmax(half, -1, dtype=torch.float32)
                ledger.begin(f"dropout {name}")
                functional.dropout(half, 0.1)
                assert functional.dropout(half, 0.1, training=False) is half
    found = {phase: sum(parts.values()) / MIB for phase, parts in ledger.peaks.items()}
    assert found["softmax cpu"] == 8 and found["softmax gpu"] == 4
    assert (
        functional.softmax is torch.nn.functional.softmax
        and functional.softmax.__module__ == "torch.nn.functional"
    )
    assert (functional.softmax, functional.dropout) == as_they_are
    assert found["dropout cpu"] == 4 and found["dropout gpu"] == 3
