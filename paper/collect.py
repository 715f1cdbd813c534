"""Collects the paper's figures from run folders and measurements into one small JSON.

A study with missing runs is left out, and the paper says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from figures import number, read_json, share
from studies import sat_study, sparkle_study, vsi_study

from spatialvlm.errors import UserError
from spatialvlm.evaluation.metrics import Estimate
from spatialvlm.papers.commands import ROOT
from spatialvlm.run_folder import read_lines


def collect(results: Path) -> dict:
    """Return every complete study and measurement under `results`, by name.

    Raises:
        UserError: no complete study, or a damaged file.
    """
    studies = {
        "sat": sat_study(results / "reproduce_sat"),
        "vsi": vsi_study(results / "reproduce_vsi"),
        "sparkle": sparkle_study(results / "reproduce_sparkle"),
    }
    if not any(studies.values()):
        raise UserError(f"--results {results}: no study is there; run model/reproduce_sat.py first")
    measured = {
        "speed": (speed, results / "benchmarks/grpo_step.json"),
        "throughput": (throughput, results / "benchmarks/eval_throughput.json"),
        "memory": (memory, results / "benchmarks/eval_memory.json"),
        "verify": (verify, results / "vsi_verify.json"),
    }
    parts = studies | {
        name: read(read_json(path)) for name, (read, path) in measured.items() if path.is_file()
    }
    parts |= {"embedded": embedded(ROOT / "spatialvlm/embedded"), "readers": readers()}
    parts["method"] = {"level": 95}  # percent, of every interval
    return {name: part for name, part in parts.items() if part}


def speed(report: Mapping) -> dict:
    """benchmarks/grpo_step.py: seconds per step, gain over the other methods, agreement."""
    arguments = report["arguments"]
    found = {
        "prompts": arguments["prompts"],
        "tokens": arguments["completion_length"],
        "steps": arguments["steps"],
        "threads": report["threads"],
        "trl": report["versions"]["trl"],
        "commit": report["git_commit"][:7],
        "sizes": {},
    }
    for result in report["results"]:
        found["sizes"][f"G{result['num_generations']}"] = {
            "generations": result["num_generations"],
            "seconds": {name: number(way["median"], 2) for name, way in result["ways"].items()},
            "gain": {name: number(ratio, 2) for name, ratio in result["ratios"].items()},
        }
    for way in ("trl", "ours"):
        found[f"agreement_{way}"] = {
            what: number(max(result["agreement"][way][what] for result in report["results"]), "e")
            for what in ("logps", "loss", "gradient")
        }
    return found


def throughput(report: Mapping) -> dict:
    """benchmarks/eval_throughput.py: questions per second."""
    ways, arguments = report["ways"], report["arguments"]
    return {
        "questions": arguments["questions"],
        "samples": arguments["num_samples"],
        "plain": number(ways["plain"]["questions_per_second"], 1),
        "ours": number(ways["ours"]["questions_per_second"], 1),
        "gain": number(ways["ours"]["speedup"], 2),
        "same": report["agreement"]["same"],
        "of": report["agreement"]["of"],
    }


def memory(report: Mapping) -> dict:
    """benchmarks/eval_throughput.py --memory: peak memory for the fewest and the most questions."""
    held = {int(n): size for n, size in report["peak_memory_bytes"].items()}
    few, many = min(held), max(held)
    return {
        "few": few,
        "few_megabytes": number(held[few] / 1e6),
        "many": many,
        "many_megabytes": number(held[many] / 1e6),
    }


def verify(report: Mapping) -> dict:
    """Agreement of recomputed answers by type of question (`spatialvlm.tasks.vsi.verify --json`)."""
    rows = {kind: part for kind, part in report.items() if part["answerable"]}
    totals = {name: sum(part[name] for part in rows.values()) for name in ("answerable", "agree")}
    return {"types": rows, **totals}


def embedded(folder: Path) -> dict:
    """Accuracy of the embedded models by form and kind; adapters under their folder's name."""
    found = {}
    for path in [folder / "accuracy.json", *sorted(folder.glob("*/accuracy.json"))]:
        name = "base" if path.parent == folder else path.parent.name
        found[name] = {form: _kinds(kinds) for form, kinds in read_json(path).items()}
    return found


def _kinds(kinds: Mapping[str, Mapping]) -> dict:
    rows = {
        kind: {
            "accuracy": share(Estimate(part["accuracy"], tuple(part["interval"]), part["n"])),
            "shuffled": number(100 * part["shuffled"], 1),
        }
        for kind, part in kinds.items()
    }
    return {
        "kinds": rows,
        "questions": sum(part["n"] for part in kinds.values()),
        "mean": number(100 * fmean(part["accuracy"] for part in kinds.values()), 1),
        "mean_shuffled": number(100 * fmean(part["shuffled"] for part in kinds.values()), 1),
    }


def readers() -> dict:
    """The number of labelled texts that the answer parser is tested on."""
    return {"texts": len(read_lines(ROOT / "tests/parsing/completions.jsonl"))}
