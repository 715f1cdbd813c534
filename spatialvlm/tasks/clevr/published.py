"""CLEVR-CoGenT ValB as paper A reports it, in percent."""

QWEN, LLAMA = "Qwen2.5-VL-7B", "Llama-4-Scout"
PROMPTING = (  # (model, strategy as here, the paper's name of the row, figures)
    (LLAMA, "direct", "direct (CoGenT ValB)", (68.47,)),
    (LLAMA, "describe", "describe (CoGenT ValB)", (70.66,)),
    (QWEN, "direct", "direct (CoGenT ValB)", (61.30,)),
    (QWEN, "describe", "describe (CoGenT ValB)", (72.70,)),
)
# PaliGemma 2 3B mix-448; which of the three descriptions it was given is not stated.
DESCRIBED = {"image, none": 47.05, "image, description": 48.82, "blank image, description": 52.25}
