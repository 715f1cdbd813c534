"""A CLEVR scene in words, three ways: a list with positions and relations, an ordered list, or sentences.

Everything is pure text from a scene in CLEVR's form. Left, right, front and behind are the scene's own
`directions` in the ground plane, as in CLEVR's questions. `world_axes` turns a scene so that they are the
world's x and y instead, which is the order of the published descriptions (sorted by x for "from left to
right"; that y stands for front to back goes with it, and is our reading). CLEVR's camera stands at about
(7.5, -6.5), so its right lies some 49 degrees from x, and about a quarter of all pairs change sides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from string import ascii_uppercase

from spatialvlm.worlds.clevr.facts import RELATION_EPSILON, Scene, distance, relationships

STYLES = ("structured", "ordered", "nlp")
WORLD = {"right": (1.0, 0.0, 0.0), "behind": (0.0, 1.0, 0.0), "above": (0.0, 0.0, 1.0)}
WORLD |= {"left": (-1.0, 0.0, 0.0), "front": (0.0, -1.0, 0.0), "below": (0.0, 0.0, -1.0)}


def describe(scene: Scene, style: str) -> str:
    """The scene in words.

    Args:
        style: `structured` has a line an object, from left to right: its four attributes, its position along
            the camera's right and away from it (scene units, from the middle of the ground), its nearest
            neighbour, and what it is left of and in front of by CLEVR's own rule (more than 0.2 apart).
            `ordered` names all objects from left to right, then from front to back. `nlp` says the same in
            sentences.

    Raises:
        ValueError: another style.
    """
    if style not in STYLES:
        raise ValueError(f"style must be one of {', '.join(STYLES)}, not {style!r}")
    return {"structured": _structured, "ordered": _ordered, "nlp": _sentences}[style](scene)


def world_axes(scene: Scene) -> Scene:
    """The same scene with the world's axes for its sides: right is x and behind is y for every camera."""
    turned = {**scene, "directions": {side: [*way] for side, way in WORLD.items()}}
    return turned | {"relationships": relationships(turned)}


def positions(scene: Scene) -> list[tuple[float, float]]:
    """(to the right, to the back) of every object's centre from the middle of the ground, in scene units."""
    ways = [scene["directions"][side][:2] for side in ("right", "behind")]
    points = [thing["3d_coords"] for thing in scene["objects"]]
    return [tuple(x * way[0] + y * way[1] for way in ways) for x, y, _ in points]


def left_to_right(scene: Scene) -> list[int]:
    """Indices of the objects, the leftmost first."""
    return _along(scene, 0)


def front_to_back(scene: Scene) -> list[int]:
    """Indices of the objects, the foremost first."""
    return _along(scene, 1)


def names(scene: Scene) -> list[str]:
    """All four attributes of every object; of equal ones the leftmost is A, the next B, ..."""
    plain = [" ".join(t[name] for name in ("size", "color", "material", "shape")) for t in scene["objects"]]
    total, seen, found = Counter(plain), Counter(), dict(enumerate(plain))
    for index in left_to_right(scene):
        if total[plain[index]] > 1:
            found[index] = f"{plain[index]} {ascii_uppercase[seen[plain[index]]]}"
            seen[plain[index]] += 1
    return [found[index] for index in range(len(plain))]


def _along(scene: Scene, axis: int) -> list[int]:
    places = positions(scene)
    return sorted(range(len(places)), key=lambda index: (places[index][axis], index))


def _structured(scene: Scene) -> str:
    order, places, things = left_to_right(scene), positions(scene), scene["objects"]
    number = {index: count for count, index in enumerate(order, 1)}
    sides = relationships(scene)
    lines = ["number. object @ to the right, to the back; nearest object; left of; in front of"]
    for index in order:
        thing = things[index]
        words = " ".join(thing[name] for name in ("size", "color", "material", "shape"))
        parts = [f"{number[index]}. {words} @ {places[index][0]:z.1f}, {places[index][1]:z.1f}"]
        if len(things) > 1:
            parts.append(f"nearest {number[_nearest(scene, index)]}")
        for words, side in (("left of", "right"), ("front of", "behind")):
            if beyond := sorted(number[other] for other in sides[side][index]):
                parts.append(f"{words} {', '.join(map(str, beyond))}")
        lines.append("; ".join(parts))
    return "\n".join(lines)


def _nearest(scene: Scene, index: int) -> int:
    others = (other for other in range(len(scene["objects"])) if other != index)
    return min(others, key=lambda other: distance(scene, index, other))


def _ordered(scene: Scene) -> str:
    name = names(scene)
    across, away = (
        ", ".join(name[index] for index in order(scene)) for order in (left_to_right, front_to_back)
    )
    return f"From left to right: {across}.\nFrom front to back: {away}."


def _sentences(scene: Scene) -> str:
    name, order = names(scene), left_to_right(scene)
    if len(order) == 1:
        return f"The only object is a {name[0]}."
    told = [f"There are {len(order)} objects.", f"The leftmost one is a {name[order[0]]}."]
    for before, index in zip(order, order[1:], strict=False):
        told.append(
            f"Next to the right comes a {name[index]}, {_behind(scene, index, before)} the {name[before]}."
        )
    things = [f"the {name[index]}" for index in front_to_back(scene)]
    told.append(f"From the front to the back there are {_listed(things)}.")
    return " ".join(told)


def _behind(scene: Scene, index: int, other: int) -> str:
    """Where an object stands as seen from another, by CLEVR's rule."""
    away = positions(scene)
    gap = away[index][1] - away[other][1]
    if abs(gap) <= RELATION_EPSILON:
        return "as far back as"
    return "behind" if gap > 0 else "in front of"


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"
