"""All strategies by name."""

from spatialvlm.prompting.alignment import ALIGNMENT
from spatialvlm.prompting.chain_of_symbols import CHAIN_OF_SYMBOLS
from spatialvlm.prompting.confidence import CONFIDENCE
from spatialvlm.prompting.depth_map import DEPTH_MAP
from spatialvlm.prompting.describe import DESCRIBE
from spatialvlm.prompting.direct import DIRECT
from spatialvlm.prompting.kshot_conversational import KSHOT_CONVERSATIONAL
from spatialvlm.prompting.kshot_split import KSHOT_SPLIT
from spatialvlm.prompting.optical_flow import OPTICAL_FLOW
from spatialvlm.prompting.program_of_thought import PROGRAM_OF_THOUGHT
from spatialvlm.prompting.scene_graph import SCENE_GRAPH
from spatialvlm.prompting.think import THINK
from spatialvlm.prompting.visualization_of_thought import VISUALIZATION_OF_THOUGHT

STRATEGIES = {
    strategy.name: strategy
    for strategy in (
        DIRECT,
        THINK,
        SCENE_GRAPH,
        DESCRIBE,
        KSHOT_SPLIT,
        KSHOT_CONVERSATIONAL,
        OPTICAL_FLOW,
        PROGRAM_OF_THOUGHT,
        CHAIN_OF_SYMBOLS,
        VISUALIZATION_OF_THOUGHT,
        DEPTH_MAP,
        CONFIDENCE,
        ALIGNMENT,
    )
}
