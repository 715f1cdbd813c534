"""Model and dataset cards for the Hugging Face hub, written from run folders.

python -m spatialvlm.reporting.cards write results/pali_sat_grpo/v2-embedded-seed0    # adapter/README.md
python -m spatialvlm.reporting.cards push results/pali_sat_grpo/v2-paper-seed0 owner/name

`push` uploads the adapter with its card, using the token of `hf auth login` or HF_TOKEN.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import (
    DatasetCard,
    DatasetCardData,
    EvalResult,
    HfApi,
    ModelCard,
    ModelCardData,
    get_token,
)

from spatialvlm import cli
from spatialvlm.disk import disk_errors
from spatialvlm.errors import UserError, first_line
from spatialvlm.evaluation.tables import markdown, percent
from spatialvlm.models.loading import EMBEDDED
from spatialvlm.reporting import runs, tables
from spatialvlm.reporting.runs import Test, json_object

LICENCE = "apache-2.0"  # of our code, weights and rendered data
GEMMA = "gemma"  # of adapters to PaliGemma's published weights
SIZES = (("n<1K", 1e3), ("1K<n<10K", 1e4), ("10K<n<100K", 1e5), ("100K<n<1M", 1e6), ("1M<n<10M", 1e7))
NOT_SHOWN = ("output_dir", "resume", "model", "adapter", "data", "eval_data", "report_to", "run_name")


@dataclass
class Args:
    action: Literal["write", "push"] = field(
        metadata={"help": "rewrite the adapter's card, or upload the adapter with it"}
    )
    run: str = field(metadata={"help": "run folder with adapter/"})
    name: str | None = field(default=None, metadata={"help": "owner/name on the hub, for push"})


# ---- adapters


def write_adapter_card(run_folder: str | Path) -> Path:
    """Write adapter/README.md: base model, data, command, arguments, and tests with n and intervals.

    Returns:
        The card's path.

    Raises:
        UserError: no adapter, or a file of the run that is missing, damaged or does not fit its answers.
    """
    folder = Path(run_folder)
    adapter = folder / "adapter"
    if not (adapter / "adapter_config.json").is_file():
        raise UserError(f"{folder} has no adapter/; give the folder of a finished training")
    config = json_object(folder / "config.json")
    if not {"arguments", "command"} <= config.keys():
        raise UserError(f"{folder / 'config.json'} has no 'arguments' or 'command'; give a whole run folder")
    base_model = json_object(adapter / "adapter_config.json").get("base_model_name_or_path")
    if not isinstance(base_model, str):
        raise UserError(f"{adapter / 'adapter_config.json'} names no base model; train the adapter again")
    tests = [test for test in runs.load([folder]).tests if test.folder.parent == folder]
    path = adapter / "README.md"
    with disk_errors(path):
        _adapter_card(config, base_model, tests).save(path)
    return path


def _adapter_card(config: Mapping[str, Any], base_model: str, tests: Sequence[Test]) -> ModelCard:
    arguments = config["arguments"]
    base, hub_id = _base_model(base_model)
    script = Path(config["command"][0]).stem
    data = ModelCardData(
        base_model=hub_id,
        library_name="peft",
        license=LICENCE if hub_id is None else GEMMA if "paligemma" in hub_id.lower() else None,
        language="en",
        pipeline_tag="image-text-to-text",
        tags=["spatial-reasoning", "lora"],
        datasets=[_without_revision(arguments["data"])] if _is_hub_id(arguments.get("data")) else None,
        model_name=script,
        eval_results=_eval_results(tests, arguments.get("eval_data")) or None,
    )
    commit = (config.get("git_commit") or "unknown")[:12] + (
        " with changes" if config.get("git_dirty") else ""
    )
    versions = ", ".join(f"{name} {version}" for name, version in config.get("versions", {}).items())
    shown = {  # what decides a training, without paths
        name: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in arguments.items()
        if name not in NOT_SHOWN and value is not None and not name.endswith("_state")
    }
    body = [
        f"---\n{data.to_yaml()}\n---",
        f"# {script}: {arguments.get('run_name') or 'adapter'}",
        f"A LoRA adapter to {base}, trained by `{script}` on {_data(arguments.get('data'))}.\n"
        "It is for research on what small vision-language models learn about space. It answers short "
        "questions about one image in the form it was trained on; nothing else was tested.",
        "## Tests",
        _tests_table(tests) if tests else "No test of this run is finished.",
        "## Training",
        f"```\n{' '.join(['python', *map(_without_folder, config['command'])])}\n```",
        markdown(["argument", "value"], list(shown.items())),
        f"Code at commit {commit}; {config.get('device', 'unknown device')}; {versions}.",
        "## Use",
        "```python\nfrom peft import PeftModel\n\n"
        'model = PeftModel.from_pretrained(base_model, "path/to/this/folder")\n```',
    ]
    return ModelCard("\n\n".join(body) + "\n", ignore_metadata_errors=False)


def _base_model(name: str) -> tuple[str, str | None]:
    """The base model in words, and its hub id if it has one."""
    if EMBEDDED.name in Path(name).parts[-2:]:
        world = f", with its adapter for {Path(name).name}" if Path(name).name != EMBEDDED.name else ""
        return f"the embedded PaliGemma 2 of 5.5 million weights (`spatialvlm/embedded`){world}", None
    if _is_hub_id(name):
        return _link(name), _without_revision(name)
    return f"a local model, `{Path(name).name}`", None


def _is_hub_id(name: object) -> bool:
    if not isinstance(name, str) or Path(name).exists():
        return False
    return _without_revision(name).count("/") == 1 and name[0] not in "./~"


def _without_revision(name: str) -> str:
    return name.partition("@")[0]


def _link(name: str, kind: str = "") -> str:
    """A link to `owner/name` on the hub, at its revision where it has one."""
    id, _, revision = name.partition("@")
    return f"[{name}](https://huggingface.co/{kind}{id}{f'/tree/{revision}' if revision else ''})"


def _data(name: str | None) -> str:
    if name in (None, "embedded"):
        return "rendered scenes (Apache-2.0, made by the code)"
    if _is_hub_id(name):
        return _link(name, "datasets/")
    return f"local data, `{Path(name).name}`"


def _without_folder(word: str) -> str:
    """A word of a command; only the name of an absolute path."""
    return Path(word).name if Path(word).is_absolute() else word


def _tests_table(tests: Sequence[Test]) -> str:
    columns = list(dict.fromkeys(task for test in tests for task in test.summary["tasks"]))
    rows = []
    for test in tests:
        accuracy = tables.scores(test)
        cells = [percent(accuracy[name]) if name in accuracy else "" for name in (*columns, tables.MEAN)]
        name = f"{test.stage or test.name} ({test.benchmark}, {test.kind})"
        rows.append([name, str(test.summary["n"]), *cells])
    table = markdown(["test", "n", *columns, "mean of tasks"], rows)
    return f"{table}\n\nAccuracy in percent with 95 % intervals; *shuffled*: images of other questions."


def _eval_results(tests: Sequence[Test], data: str | None) -> list[EvalResult]:
    """The trained model's greedy scores in the hub's format."""
    hub = _is_hub_id(data)
    return [
        EvalResult(
            task_type="visual-question-answering",
            dataset_type=_without_revision(data) if hub else "rendered",
            dataset_name=test.benchmark if hub else f"{test.benchmark} form, rendered scenes",
            metric_type="accuracy",
            metric_name=f"accuracy, {task} (n = {part['n']}, 95 % interval {_interval(part['interval'])})",
            metric_value=round(100 * part["accuracy"], 2),
        )
        for test in tests
        if test.stage == "trained"
        for task, part in test.summary["tasks"].items()
    ]


def _interval(interval: Sequence[float]) -> str:
    return " to ".join(f"{100 * end:.1f}" for end in interval)


def push(run_folder: str | Path, name: str) -> None:
    """Upload a run's adapter, with its card, to the hub as `name` (owner/name).

    Raises:
        UserError: as `write_adapter_card`; a malformed name; no login; the hub refuses.
    """
    if name.count("/") != 1 or not all(name.split("/")):
        raise UserError(f"{name!r} is no name on the hub; give owner/name")
    if get_token() is None:
        raise UserError(f"not logged in to upload {name}; run `hf auth login`, or set HF_TOKEN")
    write_adapter_card(run_folder)
    hub = HfApi()
    try:
        hub.create_repo(name, repo_type="model", exist_ok=True)
        hub.upload_folder(folder_path=str(Path(run_folder, "adapter")), repo_id=name, repo_type="model")
    except Exception as error:  # the hub's errors have no common ancestor
        raise UserError(
            f"{name} was not uploaded ({first_line(error)}); check name, login and network"
        ) from None
    print(f"uploaded to https://huggingface.co/{name}", flush=True)


# ---- datasets


def dataset_card(
    title: str,
    about: str,
    counts: Mapping[str, int],
    columns: Mapping[str, str],
    settings: Mapping[str, Any],
    licence: str | None = LICENCE,
) -> DatasetCard:
    """Return the card of a dataset of parquet files, one per split (`<split>.parquet`).

    Args:
        title: its heading.
        about: what it is and where it comes from, in sentences.
        counts: rows by split.
        columns: what each column holds.
        settings: everything that decides its content.
        licence: the hub's identifier; None if it depends on data of others, as `about` must then say.
    """
    size = sum(counts.values())
    files = [{"split": split, "path": f"{split}.parquet"} for split in counts]
    data = DatasetCardData(
        license=licence,
        language="en",
        task_categories=["visual-question-answering"],
        size_categories=[next(name for name, limit in SIZES if size < limit)],
        tags=["spatial-reasoning"],
        configs=[{"config_name": "default", "data_files": files}],
    )
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {title}",
        about,
        markdown(["split", "rows"], [[split, f"{count:,}"] for split, count in counts.items()]),
        "Columns: " + "; ".join(f"`{name}`, {words}" for name, words in columns.items()) + ".",
        "Made with:",
        "\n".join(f"- `{name}`: {_without_folder(str(value))}" for name, value in settings.items()),
    ]
    return DatasetCard("\n\n".join(parts) + "\n", ignore_metadata_errors=False)


def main(args: Args) -> None:
    if args.action == "write":
        print(f"written to {write_adapter_card(args.run)}")
        return
    if args.name is None:
        raise UserError("push needs the name on the hub: push RUN owner/name")
    push(args.run, args.name)


def flags(argv: Sequence[str]) -> list[str]:
    """Return `push RUN owner/name` as the flags that the parser knows."""
    if not argv or argv[0].startswith("-"):
        return list(argv)
    named = zip(("--action", "--run", "--name"), argv, strict=False)
    return [*(word for pair in named for word in pair), *argv[3:]]


if __name__ == "__main__":
    cli.run(main, Args, flags(sys.argv[1:]))
