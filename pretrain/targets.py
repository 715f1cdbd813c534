"""Dense targets: what the model should say of a patch, or of a thing that a question names.

Answering questions alone never taught a model of this size to look within an hour on a CPU; dense answers do
in minutes. One row of logits and numbers serves both rendered worlds; what one of them lacks is not asked of
it: class -1, or NaN.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from pretrain.build import IMAGE_SIZE, LABELS, PATCH_SIZE
from spatialvlm.worlds.clevr.render import COLORS
from spatialvlm.worlds.clevr.scenes import MATERIALS, SHAPES, SIZES

PATCHES = IMAGE_SIZE // PATCH_SIZE  # along a side
MOST = 16  # things in an image
# The words that each group of logits chooses from; None: nothing there.
GROUPS = {
    "shape": (None, *SHAPES, "node"),
    "color": tuple(COLORS),
    "size": SIZES,
    "material": MATERIALS,
    "label": LABELS[:MOST],
}
WORDS = tuple(word for words in GROUPS.values() for word in words)
SIDES = ("right", "left", "above", "below")
# Of a thing: where it is on the image, how far away, where on the ground or plane, where it has lines.
VALUES = ("column", "row", "distance", "x", "y", *SIDES)
ROWS = len(WORDS) + 1 + len(VALUES) + 1  # + whether a thing's middle is there, + how much is floor


def of_patches(
    owners: torch.Tensor, classes: torch.Tensor, values: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Targets on every patch of some images.

    Args:
        owners: (B, patches) int64, the thing on each patch, -1 where none is.
        classes: (B, MOST, groups) int64, of each thing the index within each group, -1 without.
        values: (B, MOST, VALUES) float32; column and row count four from border to border, 0 in the middle.

    Returns:
        classes (B, patches, groups), shape 0 where nothing is; centre flags (B, patches); and values (B,
        patches, VALUES), NaN where nothing is, column and row as seen from the patch, in patches.
    """
    there = owners[..., None] >= 0
    index = owners.clamp_min(0)[..., None]
    of = torch.where(there, classes.gather(1, index.expand(-1, -1, classes.shape[2])), -1)
    of[..., 0] = of[..., 0].clamp_min(0)
    found = values.gather(1, index.expand(-1, -1, values.shape[2]))
    found = torch.where(there, found, torch.nan)
    middles = torch.arange(PATCHES) + 0.5
    middles = torch.stack([middles.repeat(PATCHES), middles.repeat_interleave(PATCHES)], -1).to(values)
    found[..., :2] = (found[..., :2] / 4 + 0.5) * PATCHES - middles
    place = ((values[..., :2] / 4 + 0.5) * PATCHES).nan_to_num(0).long().clamp(0, PATCHES - 1)
    centres = torch.zeros(owners.shape, device=values.device)
    things = (classes[..., 0] >= 0).float()
    centres.scatter_reduce_(1, place[..., 1] * PATCHES + place[..., 0], things, "amax")
    return of, centres, found


def loss(
    said: torch.Tensor,
    classes: torch.Tensor,
    values: torch.Tensor,
    centres: torch.Tensor | None = None,
    floor: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross-entropies and smooth L1 of `said` (N, ROWS); classes (N, groups) and values (N, VALUES) count
    where they are. With `centres` and `floor` (N) the rows are patches, which may be empty.
    """
    said, on = said.float(), classes[:, 0] > 0
    total, start = said.sum() * 0, 0
    if centres is not None:
        nothing = said[:, 0] - said[:, 1 : len(GROUPS["shape"])].logsumexp(1)
        total = total + F.binary_cross_entropy_with_logits(nothing, 1 - on.float())
        total = total + F.binary_cross_entropy_with_logits(said[:, len(WORDS)], centres)
    for k, (group, words) in enumerate(GROUPS.items()):
        hide = group == "shape"  # what the shape is, given that there is one
        some = classes[:, k] >= hide
        if some.any():
            total = total + F.cross_entropy(
                said[some, start + hide : start + len(words)], classes[some, k] - int(hide)
            )
        start += len(words)
    numbers = said[:, start + 1 : start + 1 + len(VALUES)]
    total = total + _near(numbers, values)
    return total if floor is None else total + _near(said[:, -1], floor)


def _near(said: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    known = ~wanted.isnan()
    return F.smooth_l1_loss(said[known], wanted[known].float()) if known.any() else said.sum() * 0


@torch.no_grad()
def accuracy(
    said: torch.Tensor, classes: torch.Tensor, values: torch.Tensor, centres: torch.Tensor
) -> dict[str, float]:
    """The fraction of things' patches read right, by group, the centre flags' F1, and the mean error of each
    value; arguments as `loss`.
    """
    said, found, start = said.float(), {}, 0
    for k, (group, words) in enumerate(GROUPS.items()):
        some = classes[:, k] >= (group == "shape")
        best = said[some, start : start + len(words)].argmax(1)
        found[group] = (best == classes[some, k]).float().mean().item()
        start += len(words)
    flag, gold = said[:, start] > 0, centres > 0
    found["centre_f1"] = (2 * (flag & gold).sum() / (flag.sum() + gold.sum()).clamp_min(1)).item()
    for k, name in enumerate(VALUES):
        known = ~values[:, k].isnan()
        error = (said[known, start + 1 + k] - values[known, k].float()).abs()
        found[f"{name}_error"] = error.mean().item()
    return found
