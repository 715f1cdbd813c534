"""Questions of the pretraining's plans, for their tests."""

from random import Random


def asked(world, made, plan: str, kind: str, each: int):
    """(facts, question) of a kind, up to `each` per item."""
    rng, wanted = Random(kind), world.plans[plan]
    for facts in filter(wanted.only, made):
        for _ in range(each):
            if question := wanted.askers[kind][0](facts, rng):
                yield facts, question
