"""What is prepared for a GPU runs on the CPU as far as it can."""

import sys
from pathlib import Path

import pytest

from spatialvlm import cli

# scripts lie beside what they use
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import batch_size
import gpu_check


@pytest.mark.slow
def test_a_cache_of_one_size_gives_the_same_tokens(monkeypatch):
    monkeypatch.setattr(gpu_check, "SMALL", True)
    monkeypatch.setattr(gpu_check, "clock", lambda work, times=3: 0.0)
    found = gpu_check.decode_from_a_static_cache()
    assert found["static cache, same tokens"] == 1


@pytest.mark.slow
def test_answers_in_float32_do_not_depend_on_the_batch():
    flags = "--limit 6 --dtypes float32 float16 --batch_sizes 5 1"
    found = cli.run(batch_size.main, batch_size.Args, flags.split())
    assert found.keys() == {"float32, 5", "float32, 1", "float16, 5", "float16, 1"}
    assert not found["float32, 1"]["other answers"]
    assert found["float16, 5"]["accuracy"]["n"] == 6
