"""Rows that training leaves out because they cannot be used: counted, said, and limited to 1 %.

One rule for all training data, wherever it lies. A benchmark leaves out nothing: it refuses a bad row.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tqdm import tqdm

from spatialvlm.errors import RowError, UserError

MAX_EXCLUDED = 0.01  # of the rows looked at


class UsableRows(NamedTuple):
    """The rows to use, and why others cannot be."""

    numbers: list[int]
    excluded: dict[str, int]  # how many rows by reason, for config.json; empty where all can be used


def usable_rows(
    numbers: Sequence[int],
    wanted: Callable[[int], object],
    name: str,
    limit: int | None = None,
    training: bool = True,
) -> UsableRows:
    """Choose the first `limit` rows that are wanted and can be used; says in one line what is left out.

        table = rows.read(path, split)
        chosen = usable_rows(range(len(table)), check, f"{path} {split}", limit)
        LazyExamples(make, chosen.numbers, kept=1, facts={"excluded": chosen.excluded})

    Args:
        numbers: of the rows that may be taken, in their order.
        wanted: looks at the row of a number and checks all of it: whether to take it (False: passed over,
            as a row of another kind). Raises RowError where the row cannot be used; any other error ends
            the reading.
        name: of the data, for messages.
        limit: maximum number of rows to take.
        training: False refuses the first row that cannot be used, as a benchmark must.

    Raises:
        UserError: more than 1 % of the rows looked at cannot be used (the message has the first of them and
            the counts), as soon as that is certain.
    """
    chosen: list[int] = []
    excluded: Counter[str] = Counter()
    first: RowError | None = None
    looked_at, quiet = 0, not _is_main_process()
    total = min(limit or len(numbers), len(numbers))
    with tqdm(total=total, desc=name, unit="row", delay=2, leave=False, disable=quiet) as bar:
        for number in numbers:
            if limit is not None and len(chosen) >= limit:
                break
            looked_at += 1
            try:
                if wanted(number):
                    chosen.append(number)
            except RowError as error:
                if not training:
                    raise
                first = first or error
                excluded[error.reason] += 1
                if excluded.total() > MAX_EXCLUDED * len(numbers):
                    break
            bar.update((looked_at if limit is None else len(chosen)) - bar.n)
    counts = ", ".join(f"{reason} {count:,}" for reason, count in excluded.most_common())
    if excluded.total() > MAX_EXCLUDED * looked_at:
        raise UserError(
            f"{first}. {excluded.total():,} of the {looked_at:,} rows of {name} looked at cannot be used "
            f"({counts}); training leaves out at most {MAX_EXCLUDED:.0%}"
        )
    if excluded and not quiet:
        print(
            f"{name}: {excluded.total():,} of {looked_at:,} rows cannot be used and are left out ({counts}); "
            f"the first: {first}",
            file=sys.stderr,
        )
    return UsableRows(chosen, dict(excluded))


def _is_main_process() -> bool:
    if "torch" not in sys.modules:  # which reading data does not need, and which a launch has imported
        return True
    from spatialvlm import distributed

    return distributed.state().is_main_process
