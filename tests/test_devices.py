"""What a run says of its GPU as it starts: which one, or why it cannot be used and what helps."""

from contextlib import ExitStack

import pytest
import torch
from accelerate import PartialState
from machines import CPU_BUILD, CUDA_12_6, CUDA_13_0, H100, T4, V100, Machine

from spatialvlm import devices, distributed
from spatialvlm.errors import UserError
from spatialvlm.models import loading

SMALL = 'see README, "Installation"; or run the small model on the CPU with --profile embedded'
CU126 = "install torch 2.13.0 built for CUDA 12.6 (cu126: cards up to H100, driver 525 or newer)"


@pytest.fixture
def put(monkeypatch, tmp_path):
    """Puts a machine in the place of this one."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with ExitStack() as stack:

        def put(machine):
            monkeypatch.setenv("PATH", machine.path(tmp_path))
            devices.nvidia_gpu.cache_clear()
            for each in machine.patches():
                stack.enter_context(each)
            PartialState._reset_state()

        yield put
    devices.nvidia_gpu.cache_clear()
    PartialState._reset_state()


def first_line(capsys, **options):
    """The first line of a run, which ends at the model."""
    with pytest.raises(UserError, match="no such folder"):
        loading.load(loading.ModelArgs(model="nowhere", **options))
    return capsys.readouterr().out


USABLE = {
    "T4": (Machine(CUDA_13_0, T4), "Tesla T4, 14.3 of 14.6 GiB free, float16 (no native bfloat16)"),
    "V100": (
        Machine(CUDA_12_6, V100),
        "Tesla V100-SXM2-16GB, 15.5 of 15.8 GiB free, float16 (no native bfloat16)",
    ),
    "H100": (Machine(CUDA_13_0, H100), "NVIDIA H100 80GB HBM3, 77.6 of 79.2 GiB free, bfloat16"),
    "A10G": (
        Machine(CUDA_13_0, ("NVIDIA A10G", (8, 6), 22.0), free=0.1),
        "NVIDIA A10G, 2.2 of 22.0 GiB free (the rest is in use: nvidia-smi lists by what), bfloat16",
    ),
}


@pytest.mark.parametrize("name", USABLE)
def test_a_gpu_that_works(name, put, capsys):
    machine, described = USABLE[name]
    put(machine)
    reason = "a CUDA device is here; --profile embedded for the small model"
    assert first_line(capsys) == f"profile: paper ({reason}); {described}\n"
    assert distributed.state().device.type == "cuda"


UNUSABLE = {
    "V100, CUDA 13": (
        Machine(CUDA_13_0, V100, "580.95.05"),
        f"torch 2.13.0 built for CUDA 13.0 has no kernels for Tesla V100-SXM2-16GB (sm_70); {CU126}",
    ),
    "old driver": (
        Machine(CUDA_13_0, T4, "535.129.03", starts=False),
        "Tesla T4 has driver 535, and torch 2.13.0 built for CUDA 13.0 needs 580 or newer; "
        f"{CU126}, or a driver of 580 or newer",
    ),
    "older driver": (
        Machine(CUDA_12_6, T4, "470.256.02", starts=False),
        "Tesla T4 has driver 470, and torch 2.13.0 built for CUDA 12.6 needs 525 or newer; "
        "install a driver of 525 or newer",
    ),
    "CPU build": (
        Machine(CPU_BUILD, T4, "535.129.03", starts=False),
        f"Tesla T4 is here, and torch 2.13.0 is built without CUDA; {CU126}",
    ),
    "CPU build, new driver": (
        Machine(CPU_BUILD, H100, "580.95.05", starts=False),
        f"NVIDIA H100 80GB HBM3 is here, and torch 2.13.0 is built without CUDA; {CU126} or the same built "
        "for CUDA 13.0 (cu130: cards from T4 on, driver 580 or newer)",
    ),
    "a card newer than CUDA 12.6": (
        Machine(CUDA_12_6, ("NVIDIA B200", (10, 0), 178.0), "580.95.05"),
        "torch 2.13.0 built for CUDA 12.6 has no kernels for NVIDIA B200 (sm_100); install the same built "
        "for CUDA 13.0 (cu130: cards from T4 on, driver 580 or newer)",
    ),
    "a torch without a build for CUDA 12.6": (
        Machine(CUDA_13_0, V100, "580.95.05", version="2.15.0"),
        f"torch 2.15.0 built for CUDA 13.0 has no kernels for Tesla V100-SXM2-16GB (sm_70); {CU126}",
    ),
    "Kepler": (
        Machine(CUDA_12_6, ("Tesla K80", (3, 7), 11.2), "470.256.02"),
        "torch 2.13.0 built for CUDA 12.6 has no kernels for Tesla K80 (sm_37); use a newer card",
    ),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_gpu_that_cannot_be_used(name, put, capsys):
    machine, message = UNUSABLE[name]
    put(machine)
    for profile in ("auto", "paper"):
        with pytest.raises(UserError) as caught:
            loading.load(loading.ModelArgs(profile=profile))
        assert str(caught.value) == f"{message}; {SMALL}"
    assert not devices.uses_cuda() and distributed.state().device.type == "cpu"
    reason = message.partition("; ")[0]
    assert (
        first_line(capsys, profile="embedded")
        == f"profile: embedded (as requested); CPU, float32 ({reason})\n"
    )


def test_cuda_that_does_not_start_for_another_reason(put, monkeypatch):
    put(Machine(CUDA_13_0, T4, "580.95.05", starts=False))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setattr(torch.cuda, "init", lambda: (_ for _ in ()).throw(RuntimeError("No CUDA GPUs\nmore")))
    message = "Tesla T4 is here, and CUDA does not start (No CUDA GPUs); compare with `nvidia-smi` and "
    with pytest.raises(UserError) as caught:
        loading.resolve_profile(loading.ModelArgs())
    assert str(caught.value) == f"{message}CUDA_VISIBLE_DEVICES=7; {SMALL}"


HERE = "no CUDA device here"
HIDDEN = "GPUs are hidden by CUDA_VISIBLE_DEVICES or --cpu"


@pytest.mark.parametrize(
    ("machine", "environment", "reason"),
    [
        (Machine(CPU_BUILD), {}, HERE),
        (Machine(CUDA_13_0), {}, HERE),
        (Machine(CPU_BUILD, T4, "535.129.03", starts=False), {"CUDA_VISIBLE_DEVICES": ""}, HIDDEN),
        (Machine(CUDA_13_0, V100, "580.95.05"), {"CUDA_VISIBLE_DEVICES": "-1"}, HIDDEN),
        (Machine(CUDA_13_0, H100, "580.95.05"), {"ACCELERATE_USE_CPU": "true"}, HIDDEN),
    ],
)
def test_without_a_gpu_to_use(machine, environment, reason, put, monkeypatch, capsys):
    put(machine)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    line = f"profile: embedded ({reason}; --profile paper for the published model); CPU, float32\n"
    assert first_line(capsys) == line
    assert first_line(capsys, profile="paper") == "profile: paper (as requested); CPU, float32\n"


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((8, 9), "sm_80", True),  # within the generation
        ((8, 0), "sm_86", False),
        ((9, 0), "sm_80 compute_80", True),  # translated by the driver
        ((9, 0), "sm_80 sm_90a", True),
        ((9, 1), "sm_90a compute_90a", False),  # for that card alone
        ((12, 1), "sm_120f", True),
        ((12, 0), "sm_100 compute_100f", False),
        ((7, 0), "sm_75 compute_75", False),
        ((7, 0), "", True),  # a build that does not say
    ],
)
def test_which_kernels_run_on_which_card(capability, architectures, runs, put):
    put(Machine(("13.0", architectures), ("a card", capability, 16.0)))
    assert devices.uses_cuda() == runs


def test_rocm_is_not_looked_at(put, monkeypatch):
    put(Machine((None, "gfx90a gfx942"), ("AMD Instinct MI300X", (9, 4), 192.0)))
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert devices.uses_cuda()


@pytest.mark.parametrize(("code", "gpu"), [(6, None), (9, None), (18, ("an NVIDIA GPU", 0))])
def test_an_nvidia_smi_that_fails(code, gpu, put, tmp_path):
    put(Machine(CUDA_13_0, T4, "535.129.03", starts=False))
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\nexit {code}\n")
    assert devices.nvidia_gpu() == gpu
