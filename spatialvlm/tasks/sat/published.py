"""SAT's val split in paper A's prompting study, in percent."""

LLAMA = "Llama-4-Scout"
PROMPTING = (  # (model, strategy as here, the paper's name of the row, figures)
    (LLAMA, "direct", "none (val)", (69.42,)),
    (LLAMA, "optical_flow", "optical flow (val)", (70.41,)),
    (LLAMA, "scene_graph", "scene graph (val)", (74.40,)),
    (LLAMA, "optical_flow", "5-shot conversational + optical flow (val)", (77.66,)),
)
