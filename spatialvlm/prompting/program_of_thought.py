"""Program-of-thought: a scene graph, then a short program over it, which `program.run` works out.

What the program comes to is the answer. Where it is refused, stopped or fails, or the graph is broken, there
is no answer, which counts as unread and wrong.
"""

from spatialvlm.example import Example
from spatialvlm.prompting import graph, program
from spatialvlm.prompting.strategy import Aids, Conversation, Outcome, Strategy, fill, user

PROMPTS = ("scene_graph_1", "program_of_thought_2")


def converse(example: Example, aids: Aids) -> Conversation:
    asked = fill("scene_graph_1", question=example.prompt)
    found = graph.extract((yield [user(*example.images, asked)]))
    functions = ", ".join(sorted(program.FUNCTIONS))
    asked = fill("program_of_thought_2", question=example.prompt, graph=found.text, functions=functions)
    source = graph.last_block((yield [user(*example.images, asked)]))
    record = found.record() | {"program": source}
    if found.broken:
        return Outcome("", record | {"program_status": "no graph", "program_message": ""})
    ran = program.run(source, found.value)
    record |= {"program_status": ran.status, "program_message": ran.message}
    said = program.say(ran.value) if ran.status == "ran" else ""
    return Outcome(f"<answer>{said}</answer>" if said else "", record)


PROGRAM_OF_THOUGHT = Strategy("program_of_thought", converse, PROMPTS)
