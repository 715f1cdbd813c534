"""The rows that a run recorded come back by its config.json alone."""

import pytest

from spatialvlm.errors import UserError
from spatialvlm.run_folder import DataSource
from spatialvlm.tasks import registry


@pytest.mark.parametrize(
    ("loader", "arguments"),
    [
        ("cvbench", {"path": "embedded", "split": "test", "limit": 4}),
        ("cvbench", {"path": "embedded", "limit": 4, "flipped": True}),
        ("sat", {"path": "embedded", "split": "test", "limit": 2, "circular": True}),
        ("vsr", {"path": "embedded", "split": "test", "limit": 2, "image_folder": None}),
        ("sparkle", {"path": "embedded", "split": "test", "limit": 2, "pairs": 2}),
        ("sparkle_composite", {"path": "embedded", "limit": 2}),
        ("clevr", {"path": "embedded", "split": None, "limit": 2, "form": "free"}),
        ("clevr_described", {"path": "embedded", "limit": 2, "style": "nlp", "wording": "before"}),
        ("counting", {"names": ["clevr", "sat"], "path": "embedded", "limit": 2, "instruct": True}),
        ("sat", {"path": "embedded", "split": "test", "limit": 1, "images": 2}),
        ("vsi_rooms", {"split": "test", "limit": 2, "num_frames": 2, "mode": "think"}),
        ("whatsup", {"path": "embedded", "limit": 2, "coco": None, "gqa": None}),
    ],
)
def test_every_loader_takes_what_runs_record(loader, arguments):
    source = DataSource.of({"data": DataSource(loader, arguments).record()}, "config.json")
    rows, again = registry.load_rows(source), registry.load_rows(source)
    assert len(rows) and [row.id for row in rows] == [row.id for row in again]


def test_a_loader_that_is_not_there_is_one_line():
    with pytest.raises(UserError, match="no loader is called 'imagenet'; there are cvbench"):
        registry.load_rows(DataSource("imagenet", {}))


def test_arguments_of_another_version_are_one_line():
    with pytest.raises(UserError, match="loader 'vsr': .*'colour'.*another version"):
        registry.load_rows(DataSource("vsr", {"path": "embedded", "colour": "red"}))
