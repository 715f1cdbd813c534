"""Chain of symbols: relations as a chain of symbols in the place of the graph, then the answer."""

from spatialvlm.example import Example
from spatialvlm.prompting import graph
from spatialvlm.prompting.strategy import Aids, Conversation, Outcome, Strategy, fill, user

PROMPTS = ("chain_of_symbols_1", "chain_of_symbols_2")
SYMBOLS = ("<<", "^^", "@@", "==")  # left of, above, in front of, the same kind as


def converse(example: Example, aids: Aids) -> Conversation:
    reply = yield [user(*example.images, fill("chain_of_symbols_1", question=example.prompt))]
    chain = graph.last_block(reply)
    links = sum(any(symbol in line for symbol in SYMBOLS) for line in chain.splitlines())
    asked = fill("chain_of_symbols_2", question=example.prompt, chain=chain)
    reply = yield [user(*example.images, asked)]
    return Outcome(reply, {"chain": chain, "chain_links": links, "chain_broken": not links})


CHAIN_OF_SYMBOLS = Strategy("chain_of_symbols", converse, PROMPTS)
