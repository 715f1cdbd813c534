"""What the paper's numbers are made of, and how they are written.

A *figure* is a share or a difference of shares with its interval, `{"share" or "points": value, "interval":
[low, high], "n": n}` as fractions of 1; a measured number, `{"value": x, "digits": d}` with the decimals that
it is shown with (with "e": one significant digit and an exponent), and its sign where it has `sign`; a whole
number; or words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from spatialvlm.errors import UserError
from spatialvlm.evaluation.metrics import Estimate
from spatialvlm.evaluation.tables import percent
from spatialvlm.reporting.comparison import verdict

Figure = dict | int | str
PLACES = 6  # decimals kept of a share


def share(found: Estimate) -> Figure:
    return _estimate("share", found)


def points(found: Estimate) -> Figure:
    return _estimate("points", found)


def _estimate(kind: str, found: Estimate) -> Figure:
    low, high = (round(end, PLACES) for end in found.interval)
    return {kind: round(found.value, PLACES), "interval": [low, high], "n": found.n}


def number(value: float, digits: int | str = 0, sign: bool = False) -> Figure:
    """A number shown with so many decimals, or with digits "e" as a power of ten."""
    kept = float(f"{value:.2e}") if digits == "e" else round(value, digits + 3)
    return {"value": kept, "digits": digits} | ({"sign": True} if sign else {})


def claim(words: str, difference: Estimate, reported: float | None = None) -> dict:
    """A claim that `difference` is above 0, what the paper reports of it in points, and whether it holds."""
    found = {"claim": words, "difference": points(difference), "verdict": verdict(difference)}
    return found | ({} if reported is None else {"published": number(reported, 1, sign=True)})


def is_figure(part: object) -> bool:
    return not isinstance(part, dict) or bool({"share", "points", "value"} & part.keys())


def written(figure: Figure) -> dict[str, str]:
    """A figure in words: `text` with its interval where it has one, and `short` without."""
    if not isinstance(figure, dict):
        text = f"{figure:,}" if isinstance(figure, int) else figure
        return {"text": text, "short": text}
    if "value" in figure:
        text = _number(**figure)
        return {"text": text, "short": text}
    kind = "share" if "share" in figure else "points"
    text = percent(Estimate(figure[kind], tuple(figure["interval"]), figure["n"]), sign=kind == "points")
    text = text.replace("-", "\u2212")
    return {"text": text, "short": text.split(" (")[0]}


def _number(value: float, digits: int | str, sign: bool = False) -> str:
    if digits == "e":
        mantissa, exponent = f"{value:.0e}".split("e")
        powers = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return "0" if not value else f"{mantissa} · 10{powers}"
    return f"{value:{'+' if sign else ''},.{digits}f}".replace("-", "\u2212")


def texts(part: object) -> object:
    """The same tree with every figure written; curves and other lists of numbers are left out."""
    if isinstance(part, list):
        return [texts(each) for each in part]
    if is_figure(part):
        return written(part)
    return {name: texts(each) for name, each in part.items() if name != "curves"}


def read_json(path: Path) -> Mapping:
    """Raises UserError where the file is no JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no JSON ({error}); make it again") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no JSON object; make it again")
    return found
