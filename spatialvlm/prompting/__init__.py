"""Prompting studies: paper A's ways of asking a model, against a local model or a served one.

strategy.py      the interface: an Example in, messages out, text back, until an answer
direct.py ...    one file a strategy; `registry.STRATEGIES` names them all
prompts/*.txt    what they say, quoted in docs/prompting.md
graph.py         scene graphs out of replies
program.py       the restricted evaluator of program-of-thought
exemplars.py     examples with their right graphs, from a split that is never tested on
views.py         depth maps, and two views of a rendered scene
local.py, server.py, cache.py    who answers: a model in this process, or an OpenAI-compatible server
study.py         from questions to a run folder
"""
