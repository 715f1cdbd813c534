"""Whether an adapter was trained on the captions that it is tested on.

VSR is split in two ways, and the splits share rows: 830 of the 1,222 pairs of image and caption in zeroshot's
test are in random's train.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spatialvlm.errors import UserError
from spatialvlm.tasks.clevr import data as clevr
from spatialvlm.tasks.vsr import data as vsr


def shared_with_training(adapter: str | Path, pairs: Iterable[vsr.Pair]) -> list[dict[str, Any]]:
    """Counts the test's pairs in the training data of an adapter, and warns on stderr where there are any.

    What it was trained on stands in its run folder's config.json; where that training started from another
    adapter, that one's data counts too.

    Returns: for each training data of VSR {`data`, `pairs`: how many distinct pairs of the test it holds, or
        None where its rows cannot be had}; empty where the adapter was trained on something else.

    Raises:
        UserError: the run folder's config.json is damaged.
    """
    tested, found = set(pairs), []
    for data in dict.fromkeys(_training_data(Path(adapter))):
        if not _may_be_vsr(data):
            continue
        try:
            trained = {vsr.pair(row) for _, row in vsr.read(data, "train") if _is_vsr(row)}
        except UserError as error:
            _warn(f"the adapter was trained on {data}, and whether the test was in it is not known: {error}")
            found.append({"data": data, "pairs": None})
            continue
        if not trained:
            continue
        found.append({"data": data, "pairs": len(tested & trained)})
        if shared := found[-1]["pairs"]:
            _warn(
                f"{shared} of the test's {len(tested)} pairs of image and caption are in the adapter's "
                f"training data {data}: this is no score on unseen pairs"
            )
    return found


def _training_data(adapter: Path) -> list[str]:
    """`--data` of the run that an adapter or checkpoint lies in, and of those that it started from."""
    config = adapter.resolve().parent / "config.json"
    if not config.is_file():
        return []
    try:
        arguments = json.loads(config.read_text(encoding="utf-8"))["arguments"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{config} is no run's config.json; the adapter's training data is unknown") from None
    data, before = arguments.get("data"), arguments.get("adapter")
    return ([data] if data else []) + (_training_data(Path(before)) if before else [])


def _may_be_vsr(data: str) -> bool:
    """Hub ids by their name, so that no other data set is fetched; what lies here by its first row."""
    if data == "embedded" or clevr.is_official_folder(data):
        return False
    return Path(data).exists() or "vsr" in data.lower()


def _is_vsr(row: dict[str, Any]) -> bool:
    return isinstance(row.get("caption"), str) and row.get("image") is not None


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
