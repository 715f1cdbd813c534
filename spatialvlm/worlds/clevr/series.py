"""The embedded data sets: questions over rendered scenes, each made from (split, seed, index) alone.

Nothing is stored: an example is rendered on access. Splits never share a scene, since a split's name is part
of the seed of every one of its scenes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import count
from random import Random

from PIL import Image, ImageDraw

from spatialvlm.errors import UserError
from spatialvlm.example import Example
from spatialvlm.files.lazy import KEPT, LazyExamples
from spatialvlm.worlds.clevr import official_questions, questions, scenes
from spatialvlm.worlds.clevr.facts import Scene
from spatialvlm.worlds.clevr.questions import (
    CVBENCH_TASKS,
    FREE_KINDS,
    SAT_KINDS,
    VSR_KINDS,
    Question,
    choose_answer_form,
)

SPLITS = ("train", "validation", "test")
WIDTH, HEIGHT = 168, 112  # CLEVR's 3:2 at the height that the embedded model looks at

Box = tuple[str, Sequence[float]]  # colour name, [x0, y0, x1, y1] in the 480 x 320 frame


def draw_boxes(image: Image.Image, boxes: Iterable[Box]) -> Image.Image:
    """A copy of an image with box outlines; 1 pixel wide up to 300 pixels of width, 2 at CLEVR's own 480."""
    boxed = image.copy()
    pen = ImageDraw.Draw(boxed)
    across, down = boxed.width / scenes.WIDTH, boxed.height / scenes.HEIGHT
    width = max(1, round(boxed.width / 200))
    for colour, (left, top, right, bottom) in boxes:
        corner = min(round(right * across), boxed.width - 1), min(round(bottom * down), boxed.height - 1)
        pen.rectangle([(round(left * across), round(top * down)), corner], outline=colour, width=width)
    return boxed


def highlight(image: Image.Image, scene: Scene, boxes: Iterable[tuple[str, int]]) -> Image.Image:
    """A copy of a scene's image with a question's boxes, (colour name, object index), drawn."""
    places = scenes.boxes(scene)
    return draw_boxes(image, [(colour, places[index]) for colour, index in boxes])


def sat(
    split: str,
    limit: int,
    seed: int = 0,
    answer_form: str = "natural",
    polarity: str = "closer",
    share_scenes: bool = False,
) -> Sequence[Example]:
    """`limit` questions in SAT's form, the kinds in turn.

    Args:
        answer_form: one of `questions.ANSWER_FORMS`.
        polarity: of depth and distance: `closer` or `balanced`.
        share_scenes: four neighbours have one scene where it allows them: a quarter of the rendering,
            for training, where questions need not be independent.
    """
    choose_answer_form(Random(0), answer_form)  # an unknown form fails here, not in the first example
    asks = [partial(_ask_sat, kind=kind, answer_form=answer_form, polarity=polarity) for kind in SAT_KINDS]
    return _series("sat", asks, split, limit, seed, share_scenes)


def _ask_sat(scene: Scene, rng: Random, kind: str, answer_form: str, polarity: str) -> Question | None:
    return questions.sat(scene, rng, kind, choose_answer_form(rng, answer_form), polarity)


def cvbench(split: str, limit: int, ood: bool = False, seed: int = 0) -> Sequence[Example]:
    """`limit` questions in CV-Bench's form, the tasks in turn, boxes drawn.

    With `ood`, Depth and Distance are polarity-flipped (the same ids, images and choices).
    """
    asks = [partial(questions.cvbench, task=task, ood=ood) for task in CVBENCH_TASKS]
    return _series("cvbench", asks, split, limit, seed)


def clevr(split: str, limit: int, seed: int = 0) -> Sequence[Example]:
    """`limit` questions of CLEVR's official families, in turn."""
    asks = [partial(official_questions.clevr, family=family) for family in official_questions.FAMILIES]
    return _series("clevr", asks, split, limit, seed)


def free(split: str, limit: int, seed: int = 0, kinds: Sequence[str] = FREE_KINDS) -> Sequence[Example]:
    """`limit` free-form questions with short answers, the kinds in turn."""
    return _series("free", [partial(questions.free, kind=kind) for kind in kinds], split, limit, seed)


def vsr(split: str, limit: int, seed: int = 0) -> Sequence[Example]:
    """`limit` captions in VSR's form, true or false, the groups of relations in turn."""
    return _series("vsr", [partial(questions.vsr, kind=kind) for kind in VSR_KINDS], split, limit, seed)


Ask = Callable[[Scene, Random], Question | None]


@dataclass(frozen=True)
class Series:
    """Makes the examples of one data set from their numbers, in this process or another."""

    form: str
    asks: tuple[Ask, ...]
    split: str
    seed: int
    share_scenes: bool

    def __call__(self, index: int) -> Example:
        name = f"{self.form}-{self.split}-{self.seed}-{index}"
        series = name
        if self.share_scenes:
            series = f"{self.form}-{self.split}-{self.seed}-shared-{index // len(self.asks)}"
        ask = self.asks[index % len(self.asks)]
        for attempt in count():  # the first scene of the series that allows the question
            question = ask(scenes.make(series, attempt), Random(f"{name}-{attempt}"))
            if question:
                image = _image(series, attempt, question.boxes)
                return question.example(name, image, {"scene": [series, attempt]})
        raise AssertionError("the scenes never end")


def _series(
    form: str, asks: Sequence[Ask], split: str, limit: int, seed: int, share_scenes: bool = False
) -> LazyExamples:
    if split not in SPLITS:
        raise UserError(f"the embedded data has the splits {', '.join(SPLITS)}, not {split!r}")
    make = Series(form, tuple(asks), split, seed, share_scenes)
    return LazyExamples(make, range(limit), rendered=split)


@lru_cache(maxsize=KEPT)  # a question and its out-of-distribution twin share their image
def _image(series: str, index: int, boxes: tuple[tuple[str, int], ...]) -> Image.Image:
    scene = scenes.make(series, index)
    return highlight(scenes.render_scene(scene, WIDTH, HEIGHT).image, scene, boxes)
