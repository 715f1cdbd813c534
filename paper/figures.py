"""The paper's numbers: their form in figures.json, and their text.

A *figure* is a fraction or a difference of fractions with its interval, `{"share" or "points": value,
"interval":
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
from spatialvlm.reporting.comparison import Claim

Figure = dict | int | str
PLACES = 6  # decimals kept of a fraction


def share(found: Estimate) -> Figure:
    return _estimate("share", found)


def points(found: Estimate) -> Figure:
    return _estimate("points", found)


def _estimate(kind: str, found: Estimate) -> Figure:
    low, high = (round(end, PLACES) for end in found.interval)
    return {kind: round(found.value, PLACES), "interval": [low, high], "n": found.n}


def number(value: float, digits: int | str = 0, sign: bool = False) -> Figure:
    """Return a number with its decimals; with digits "e" it is shown as a power of ten."""
    kept = float(f"{value:.2e}") if digits == "e" else round(value, digits + 3)
    return {"value": kept, "digits": digits} | ({"sign": True} if sign else {})


def claims(found: Mapping[str, Claim]) -> dict:
    """Return claims by name: difference, verdict, and the published and shuffled differences if any."""
    return {key: _claim(each) for key, each in found.items()}


def _claim(found: Claim) -> dict:
    part = {"claim": found.text, "difference": points(found.difference), "seeds": found.seeds}
    part |= {} if found.published is None else {"published": number(found.published, 1, sign=True)}
    part |= {} if found.shuffled is None else {"shuffled": points(found.shuffled)}
    return part | {"verdict": found.verdict}


def is_figure(part: object) -> bool:
    return not isinstance(part, dict) or bool({"share", "points", "value"} & part.keys())


def written(figure: Figure) -> dict[str, str]:
    """Return a figure as `text`, with interval and `n` if it has them, and as `short` without."""
    if not isinstance(figure, dict):
        text = f"{figure:,}" if isinstance(figure, int) else figure
        return {"text": text, "short": text}
    if "value" in figure:
        text = _number(**figure)
        return {"text": text, "short": text}
    kind = "share" if "share" in figure else "points"
    text = percent(Estimate(figure[kind], tuple(figure["interval"]), figure["n"]), sign=kind == "points")
    text = text.replace("-", "\u2212")
    return {"text": text, "short": text.split(" (")[0], "n": f"{figure['n']:,}"}


def _number(value: float, digits: int | str, sign: bool = False) -> str:
    if digits == "e":
        mantissa, exponent = f"{value:.0e}".split("e")
        powers = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return "0" if not value else f"{mantissa} · 10{powers}"
    return f"{value:{'+' if sign else ''},.{digits}f}".replace("-", "\u2212")


def texts(part: object) -> object:
    """Return the tree with every figure as text, without curves."""
    if isinstance(part, list):
        return [texts(each) for each in part]
    if is_figure(part):
        return written(part)
    return {name: texts(each) for name, each in part.items() if name != "curves"}


def read_json(path: Path) -> Mapping:
    """Load a JSON object. Raises UserError if the file is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no JSON ({error}); recompute it") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no JSON object; recompute it")
    return found
