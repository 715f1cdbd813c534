"""What'sUp's controlled form over rendered scenes: two things in four arrangements, and four captions.

A set is two kinds of things, told apart by colour and shape. Two-object scenes of CLEVR's are drawn until the
first thing has been clearly to the left, to the right, in front and behind of the second; the things keep
their places and sizes there, and get the set's colours, shapes and materials. So pairs and sets are scored
for real where no photograph is at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import count
from random import Random

from PIL import Image

from spatialvlm.example import Example
from spatialvlm.files.lazy import LazyExamples
from spatialvlm.tasks.whatsup import data as whatsup
from spatialvlm.worlds.clevr import scenes
from spatialvlm.worlds.clevr.facts import VALUES, Scene, along
from spatialvlm.worlds.clevr.series import HEIGHT, WIDTH

NAME = "rendered"
ARRANGEMENTS = ("left", "right", "front", "behind")
CLEARLY = 2.5  # times as far along the direction that is said as across it
SEEN = scenes.MINIMUM_PIXELS * WIDTH * HEIGHT / (scenes.WIDTH * scenes.HEIGHT)  # pixels of a thing, at least


def load(sets: int, seed: int = 0) -> Sequence[Example]:
    """`sets` times four questions, each set made from (seed, number) alone; ids as of What'sUp's own sets."""
    made = lru_cache(maxsize=32)(lambda number: _set(number, seed))
    return LazyExamples(
        lambda index: made(index // whatsup.SET)[index % whatsup.SET], range(whatsup.SET * sets)
    )


def _set(number: int, seed: int) -> list[Example]:
    cluster = f"{NAME}-{number:03d}"
    rng = Random(f"whatsup-{seed}-{number}")
    colours, shapes = rng.sample(VALUES["color"], 2), rng.sample(VALUES["shape"], 2)
    kinds = [
        {"color": colour, "shape": shape, "material": rng.choice(VALUES["material"])}
        for colour, shape in zip(colours, shapes, strict=True)
    ]
    first, second = (f"{kind['color']} {kind['shape']}" for kind in kinds)
    captions = [f"A {first}{whatsup.RELATIONS[said]}a {second}" for said in ARRANGEMENTS]
    pictures: dict[str, Image.Image] = {}
    for attempt in count():
        scene = scenes.make(f"whatsup-{seed}-{number}", attempt, 2, 2)
        said = arrangement(scene)
        if said is None or said in pictures:
            continue
        things = [
            {name: thing[name] for name in ("size", "rotation", "3d_coords", "pixel_coords")} | kind
            for thing, kind in zip(scene["objects"], kinds, strict=True)
        ]
        picture = scenes.render_scene(scene | {"objects": things}, WIDTH, HEIGHT)
        if all((picture.objects == index).sum() >= SEEN for index in range(2)):
            pictures[said] = picture.image
        if len(pictures) == whatsup.SET:
            break
    found = []
    for said in ARRANGEMENTS:
        right = captions[ARRANGEMENTS.index(said)]
        ordered = [right, *(caption for caption in captions if caption != right)]
        found.append(whatsup.example(f"{cluster}-{said}", NAME, cluster, pictures[said], ordered, seed))
    return found


def arrangement(scene: Scene) -> str | None:
    """Where the first thing clearly is as seen from the second; None where two directions could be said."""
    to_the_left, in_front = along(scene, 0, 1, "left"), along(scene, 0, 1, "front")
    if abs(to_the_left) >= CLEARLY * abs(in_front):
        return "left" if to_the_left > 0 else "right"
    if abs(in_front) >= CLEARLY * abs(to_the_left):
        return "front" if in_front > 0 else "behind"
    return None
