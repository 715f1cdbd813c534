"""VSR as paper A reports it, in percent."""

# The first 1,000 captions of the random split's dev.
PALIGEMMA = {"PaliGemma 2 3B, random dev, first 1,000": 72.50}
QWEN, LLAMA = "Qwen2.5-VL-7B", "Llama-4-Scout"
PROMPTING = (  # (model, strategy as here, the paper's name of the row, figures)
    (LLAMA, "direct", "direct (val)", (68.82,)),
    (LLAMA, "scene_graph", "scene graph (val)", (78.14,)),
    (QWEN, "direct", "direct (val)", (66.81,)),
    (QWEN, "scene_graph", "scene graph (val)", (70.28,)),
)
