"""The benchmarks by name; each is imported when it is first used."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from inspect import signature

from spatialvlm.errors import UserError
from spatialvlm.evaluation.benchmark import Benchmark
from spatialvlm.example import Example
from spatialvlm.run_folder import DataSource

BENCHMARKS = {  # name -> where its Benchmark is, within spatialvlm.tasks
    "cvbench": "cvbench.scoring.BENCHMARK",
    "clevr": "clevr.scoring.BENCHMARK",
    "superclevr": "clevr.scoring.SUPERCLEVR",
    "counting": "counting.scoring.BENCHMARK",
    "sat": "sat.scoring.BENCHMARK",
    "vsr": "vsr.scoring.BENCHMARK",
    "sparkle": "sparkle.scoring.BASIC",
    "sparkle_composite": "sparkle.scoring.COMPOSITE",
    "whatsup": "whatsup.scoring.BENCHMARK",
    "vsibench": "vsi.scoring.VSIBENCH",
}


def benchmark(name: str) -> Benchmark:
    """The benchmark of a name in `BENCHMARKS`."""
    module, _, attribute = BENCHMARKS[name].rpartition(".")
    return getattr(import_module(f"spatialvlm.tasks.{module}"), attribute)


def titled(title: str) -> str | None:
    """The name of the benchmark with this title (what run folders record); None where there is none."""
    return next((name for name in BENCHMARKS if benchmark(name).title == title), None)


# What a run folder records as the `loader` of its rows: module and function, called by keyword.
LOADERS = {
    "cvbench": "spatialvlm.tasks.cvbench.data:load",
    "clevr": "spatialvlm.tasks.clevr.data:load",
    "clevr_described": "spatialvlm.tasks.clevr.described:load_prompted",
    "counting": "spatialvlm.tasks.counting.data:load",
    "sat": "spatialvlm.tasks.sat.data:load_test",
    "vsr": "spatialvlm.tasks.vsr.data:load",
    "whatsup": "spatialvlm.tasks.whatsup.data:load",
    "sparkle": "spatialvlm.tasks.sparkle.data:load",
    "sparkle_composite": "spatialvlm.tasks.sparkle.composite:load",
    "vsibench": "spatialvlm.tasks.vsi.data:load_with_frames",
    "vsi_rooms": "spatialvlm.tasks.vsi.rendered:load",
}


def load_rows(source: DataSource) -> Sequence[Example]:
    """The rows that a run recorded as its own.

    Raises:
        UserError: no such loader, or it takes no such arguments; and as the loader does.
    """
    if source.loader not in LOADERS:
        raise UserError(f"no loader is called {source.loader!r}; there are {', '.join(LOADERS)}")
    module, function = LOADERS[source.loader].split(":")
    load = getattr(import_module(module), function)
    try:
        signature(load).bind(**source.arguments)
    except TypeError as error:
        raise UserError(f"loader {source.loader!r}: {error}; the run was made by another version") from None
    return load(**source.arguments)
