"""The benchmarks by the names that `evaluation.score_file` knows them by; imported when needed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from spatialvlm.evaluation.benchmark import Benchmark


def _found_in(module: str, name: str) -> Callable[[], Benchmark]:
    return lambda: getattr(import_module(f"spatialvlm.evaluation.benchmark.{module}"), name)


BENCHMARKS: dict[str, Callable[[], Benchmark]] = {
    "cvbench": _found_in("cvbench", "CVBENCH"),
    "clevr": _found_in("clevr", "CLEVR"),
    "superclevr": _found_in("clevr", "SUPERCLEVR"),
    "counting": _found_in("counting", "COUNTING"),
    "sat": _found_in("sat", "SAT"),
    "vsr": _found_in("vsr", "VSR"),
    "sparkle": _found_in("sparkle", "BASIC"),
    "sparkle_composite": _found_in("sparkle", "COMPOSITE"),
    "whatsup": _found_in("whatsup", "WHATSUP"),
    "vsibench": _found_in("vsibench", "VSIBENCH"),
}
