"""The embedded model, and conversations of any strategy with any client."""

import pytest

from spatialvlm.models import loading
from spatialvlm.prompting import exemplars
from spatialvlm.prompting.strategy import Aids


@pytest.fixture(scope="session")
def embedded():
    return loading.load(loading.ModelArgs(profile="embedded"))


def aids_of(strategy) -> Aids:
    """What a strategy needs besides the question: a worked example in CV-Bench's form, depth maps."""
    needed = strategy.exemplars == "needed"
    shown = exemplars.embedded("cvbench", 1, strategy.images == 2) if needed else ()
    return Aids(shown, exemplars.depth_maps(None) if strategy.depth else None)


@pytest.fixture(scope="session")
def hold():
    """(client, strategy, examples, its aids where they differ) -> the dialogues by id."""

    def hold(client, strategy, examples, aids: Aids | None = None) -> dict:
        aids = aids or aids_of(strategy)
        return dict(client.talk((each.id, strategy.converse(each, aids)) for each in examples))

    return hold


@pytest.fixture(scope="session")
def aids():
    return aids_of
