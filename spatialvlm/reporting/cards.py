"""Cards of adapters and data sets, as the hub shows them, written from what a run left behind.

python -m spatialvlm.reporting.cards write results/pali_sat_grpo/v2-embedded-seed0  # adapter/README.md anew
python -m spatialvlm.reporting.cards push results/pali_sat_grpo/v2-paper-seed0 owner/name

`push` sends the adapter with its card to the hub, with the token of `hf auth login` or HF_TOKEN.
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
from spatialvlm.errors import UserError
from spatialvlm.models.loading import EMBEDDED
from spatialvlm.reporting.comparison import markdown
from spatialvlm.reporting.reading import Test, json_object, read
from spatialvlm.run_folder import disk_errors

LICENCE = "apache-2.0"  # of our code, weights and rendered data
GEMMA = "gemma"  # of adapters to PaliGemma's published weights
SIZES = (("n<1K", 1e3), ("1K<n<10K", 1e4), ("10K<n<100K", 1e5), ("100K<n<1M", 1e6), ("1M<n<10M", 1e7))


@dataclass
class Args:
    action: Literal["write", "push"] = field(metadata={"help": "write the adapter's card anew, or send both"})
    run: str = field(metadata={"help": "run folder with adapter/"})
    name: str | None = field(default=None, metadata={"help": "owner/name on the hub, for push"})


# ---- adapters


def write_adapter_card(run_folder: str | Path) -> Path:
    """Writes adapter/README.md: base model, data, command, arguments, and every test with n and intervals.

    Returns: the card's path.

    Raises:
        UserError: no adapter there, or a file of the run that is missing, damaged or unlike its answers.
    """
    folder = Path(run_folder)
    adapter = folder / "adapter"
    if not (adapter / "adapter_config.json").is_file():
        raise UserError(f"{folder} has no adapter/; give the folder of a training that has ended")
    config = json_object(folder / "config.json")
    if not {"arguments", "command"} <= config.keys():
        raise UserError(
            f"{folder / 'config.json'} does not say how the run was made; give a whole run folder"
        )
    base_model = json_object(adapter / "adapter_config.json").get("base_model_name_or_path")
    if not isinstance(base_model, str):
        raise UserError(f"{adapter / 'adapter_config.json'} names no base model; train the adapter again")
    tests = [test for test in read([folder]).tests if test.folder.parent == folder]
    path = adapter / "README.md"
    with disk_errors(path):
        _adapter_card(config, base_model, tests).save(path)
    return path


def _adapter_card(config: Mapping[str, Any], base_model: str, tests: Sequence[Test]) -> ModelCard:
    given = config["arguments"]
    base, hub_id = _base_model(base_model)
    script = Path(config["command"][0]).stem
    data = ModelCardData(
        base_model=hub_id,
        library_name="peft",
        license=LICENCE if hub_id is None else GEMMA if "paligemma" in hub_id.lower() else None,
        language="en",
        pipeline_tag="image-text-to-text",
        tags=["spatial-reasoning", "lora"],
        datasets=[given["data"]] if _is_hub_id(given.get("data")) else None,
        model_name=script,
        eval_results=_eval_results(tests, given) or None,
    )
    changed = " with changes" if config.get("git_dirty") else ""
    commit = (config.get("git_commit") or "unknown")[:12] + changed
    versions = ", ".join(f"{name} {version}" for name, version in config.get("versions", {}).items())
    sentences = [
        f"A LoRA adapter to {base}, trained by `{script}` on {_data(given.get('data'))}.",
        "It is for research on what small vision-language models learn about space. It answers short "
        "questions about one image in the form that it was trained on, and nothing else was tested.",
    ]
    body = [
        f"---\n{data.to_yaml()}\n---",
        f"# {script}: {given.get('run_name') or 'adapter'}",
        "\n".join(sentences),
        "## Tests",
        _tests_table(tests) if tests else "No test of this run has ended.",
        "## Training",
        f"```\n{' '.join(['python', *map(_shown_word, config['command'])])}\n```",
        markdown(["argument", "value"], [[name, _shown(given[name])] for name in _arguments(given)]),
        f"Code at commit {commit}; {config.get('device', 'unknown device')}; {versions}.",
        "## Use",
        "```python\nfrom peft import PeftModel\n\n"
        'model = PeftModel.from_pretrained(base_model, "path/to/this/folder")\n```',
    ]
    return ModelCard("\n\n".join(body) + "\n", ignore_metadata_errors=False)


def _base_model(name: str) -> tuple[str, str | None]:
    """(the base model in words, its hub id where it has one)."""
    if EMBEDDED.name in Path(name).parts[-2:]:
        world = f", with its adapter for {Path(name).name}" if Path(name).name != EMBEDDED.name else ""
        return f"the embedded PaliGemma 2 of 5.5 million weights (`spatialvlm/embedded`){world}", None
    if _is_hub_id(name):
        return f"[{name}](https://huggingface.co/{name})", name
    return f"a local model, `{Path(name).name}`", None


def _is_hub_id(name: object) -> bool:
    return isinstance(name, str) and name.count("/") == 1 and not Path(name).exists() and name[0] not in "./~"


def _data(name: str | None) -> str:
    if name in (None, "embedded"):
        return "rendered scenes (Apache-2.0, made by the code)"
    if _is_hub_id(name):
        return f"[{name}](https://huggingface.co/datasets/{name})"
    return f"local data, `{Path(name).name}`"


def _arguments(given: Mapping[str, Any]) -> list[str]:
    """What decides a training, without paths and what changes no number."""
    left_out = ("output_dir", "resume", "model", "adapter", "data", "eval_data", "report_to", "run_name")
    return [
        name
        for name, value in given.items()
        if name not in left_out and value is not None and not name.endswith("_state")
    ]


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _shown_word(word: str) -> str:
    """A word of a command, of a path outside the working folder its name alone."""
    return Path(word).name if Path(word).is_absolute() else word


def _tests_table(tests: Sequence[Test]) -> str:
    columns = list(dict.fromkeys(task for test in tests for task in test.summary["tasks"]))
    rows = []
    for test in tests:
        cells = [_percent(test.summary["tasks"].get(task, {}), "accuracy") for task in columns]
        prefix = f"any_of_{test.num_samples} " if test.num_samples > 1 else ""
        total = _percent(test.summary["aggregates"].get(f"{prefix}mean_of_tasks", {}), "value")
        what = f"{test.part or test.name} ({test.benchmark}, {test.kind})"
        rows.append([what, str(test.summary["n"]), *cells, total])
    table = markdown(["test", "n", *columns, "mean of tasks"], rows)
    return f"{table}\n\nAccuracy in percent with 95 % intervals; *shuffled*: images of other questions."


def _percent(part: Mapping[str, Any], name: str) -> str:
    if name not in part:
        return ""
    low, high = part["interval"]
    return f"{100 * part[name]:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _eval_results(tests: Sequence[Test], given: Mapping[str, Any]) -> list[EvalResult]:
    """The trained model's greedy scores, in the hub's form."""
    data = given.get("eval_data")
    return [
        EvalResult(
            task_type="visual-question-answering",
            dataset_type=data if _is_hub_id(data) else "rendered",
            dataset_name=f"{test.benchmark}{'' if _is_hub_id(data) else ' form, rendered scenes'}",
            metric_type="accuracy",
            metric_name=f"accuracy, {task} (n = {part['n']}, 95 % interval {_range(part['interval'])})",
            metric_value=round(100 * part["accuracy"], 2),
        )
        for test in tests
        if test.part == "trained"
        for task, part in test.summary["tasks"].items()
    ]


def _range(interval: Sequence[float]) -> str:
    return " to ".join(f"{100 * end:.1f}" for end in interval)


def push(run_folder: str | Path, name: str) -> None:
    """Sends a run's adapter, with its card, to the hub's model `name` (owner/name).

    Raises:
        UserError: as `write_adapter_card`; no such form of name; nobody is logged in; the hub refuses.
    """
    if name.count("/") != 1 or not all(name.split("/")):
        raise UserError(f"{name!r} is no name on the hub; give owner/name")
    if get_token() is None:
        raise UserError(f"nobody is logged in to send {name}; run `hf auth login`, or set HF_TOKEN")
    write_adapter_card(run_folder)
    hub = HfApi()
    try:
        hub.create_repo(name, repo_type="model", exist_ok=True)
        hub.upload_folder(folder_path=str(Path(run_folder, "adapter")), repo_id=name, repo_type="model")
    except Exception as error:  # the hub's errors have no common ancestor
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{name} was not sent ({reason}); check name, login and network") from None
    print(f"sent to https://huggingface.co/{name}", flush=True)


# ---- data sets


def dataset_card(
    title: str,
    about: str,
    counts: Mapping[str, int],
    columns: Mapping[str, str],
    settings: Mapping[str, Any],
    licence: str | None = LICENCE,
    tags: Sequence[str] = ("spatial-reasoning",),
) -> DatasetCard:
    """The card of a data set of parquet files, one a split (`<split>.parquet`).

    Args:
        about: what it is and where it comes from, in sentences.
        counts: rows by split.
        columns: what each column holds.
        settings: everything that it was made with.
        licence: by the hub's name; None where it depends on data of others, which `about` must then say.
    """
    size = sum(counts.values())
    data = DatasetCardData(
        license=licence,
        language="en",
        task_categories=["visual-question-answering"],
        size_categories=[next(name for name, most in SIZES if size < most)],
        tags=list(tags),
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"{split}.parquet"} for split in counts],
            }
        ],
    )
    parts = [
        f"---\n{data.to_yaml()}\n---",
        f"# {title}",
        about,
        markdown(["split", "rows"], [[split, f"{count:,}"] for split, count in counts.items()]),
        "Columns: " + "; ".join(f"`{name}`, {words}" for name, words in columns.items()) + ".",
        "Made with:",
        "\n".join(f"- `{name}`: {_shown_word(str(value))}" for name, value in settings.items()),
    ]
    return DatasetCard("\n\n".join(parts) + "\n", ignore_metadata_errors=False)


VSI_100K = """\
Questions about indoor scenes in six families, made from 3D annotation by the rules of VSI-100k (vsGRPO, arXiv
2504.00883, which published neither code nor data), in VSI-Bench's words and without options."""
VSI_SOURCES = {  # whether the rooms are rendered -> where they come from, and whose terms hold
    True: "The rooms are rendered: there is no person, photograph or published data in it.",
    False: "The rooms are of others' annotation (ScanNet's, say), whose terms of use hold for this too: ask "
    "whether they allow it before you pass it on.",
}
VSI_COLUMNS = {
    "question": "in words",
    "answer": "a number, or a word where VSI-Bench gives options",
    "family": "one of the six",
    "question_type": "VSI-Bench's name of the kind",
    "scene_name": "the room",
    "frames": "pictures of the room, relative to this folder",
    "labels": "the objects asked about",
    "measures": "the figures behind the answer",
    "geometry": "the objects' boxes",
    "distance": "the rule that distances were measured by",
}


def vsi_card(splits: Mapping[str, Mapping], settings: Mapping[str, Any], rendered: bool) -> DatasetCard:
    """The card of what make_data/vsi_100k.py writes; `splits` as in its summary."""
    counts = {split: of["rows"] for split, of in splits.items()}
    about = f"{VSI_100K} {VSI_SOURCES[rendered]}"
    return dataset_card("VSI-100k", about, counts, VSI_COLUMNS, settings, LICENCE if rendered else None)


def main(args: Args) -> None:
    if args.action == "write":
        print(f"written to {write_adapter_card(args.run)}")
        return
    if args.name is None:
        raise UserError("push needs the name on the hub: push RUN owner/name")
    push(args.run, args.name)


def flags(argv: Sequence[str]) -> list[str]:
    """`push RUN owner/name` as the flags that the parser knows."""
    if not argv or argv[0].startswith("-"):
        return list(argv)
    named = zip(("--action", "--run", "--name"), argv, strict=False)
    return [*(word for pair in named for word in pair), *argv[3:]]


if __name__ == "__main__":
    cli.run(main, Args, flags(sys.argv[1:]))
