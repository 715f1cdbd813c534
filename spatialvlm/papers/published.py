"""What the papers report, in percent, to be printed beside what was measured."""

CVBENCH_COLUMNS = ("Count", "Relation", "Depth", "Distance", "Total")

# CV-Bench of PaliGemma 2 3B mix-224 trained on 15,000 rows of SAT: Pass@1 greedy.
CVBENCH_PASS1 = {
    "base": (64.00, 77.08, 51.83, 14.83, 52.16),
    "GRPO-v1": (65.10, 78.41, 56.83, 18.00, 54.77),
    "SFT": (65.07, 80.92, 61.67, 59.50, 66.79),
    "GRPO-v2": (65.6, 84.92, 76.33, 62.67, 72.38),
}
# The same, any of 4 samples at temperature 1.0 right.
CVBENCH_PASS4 = {
    "SFT": (72.08, 82.92, 91.17, 90.00, 84.22),
    "GRPO-v2": (73.07, 86.00, 88.17, 78.00, 81.31),
}
# (as asked, with the polarity turned): "closer to" becomes "far away from" and the answers swap.
POLARITY = {
    "base": {"Depth": (51.83, 59.00), "Distance": (14.83, 5.83)},
    "SFT": {"Depth": (61.67, 56.33), "Distance": (59.50, 47.47)},
    "GRPO-v2": {"Depth": (76.33, 70.50), "Distance": (62.67, 59.50)},
}

# VSR of PaliGemma 2 3B: the first 1,000 captions of the random split's dev.
VSR = {"PaliGemma 2 3B, random dev, first 1,000": 72.50}

# VSI-Bench (vsGRPO, arXiv 2504.00883): the mean of the eight tasks, then each. T, O and V: think, observe and
# vanilla prompts, in training and test.
VSIBENCH_COLUMNS = (
    "Avg",
    "Count",
    "AbsDist",
    "ObjSize",
    "Room",
    "RelDist",
    "RelDir",
    "Route",
    "Order",
)
VSIBENCH = {
    "Qwen2-VL-2B": (23.3, 21.4, 3.4, 32.3, 31.1, 26.7, 27.7, 24.7, 18.9),
    "2B + SFT": (29.6, 29.6, 23.5, 47.4, 33.5, 26.9, 28.3, 28.8, 18.6),
    "2B + DPO": (23.9, 21.7, 3.7, 34.8, 32.4, 27.1, 28.5, 24.2, 18.6),
    "vsGRPO-T 2B": (29.6, 35.0, 28.2, 34.7, 25.2, 28.0, 38.5, 28.5, 18.7),
    "vsGRPO-O 2B": (31.2, 34.6, 22.5, 44.8, 33.7, 29.4, 41.8, 26.8, 15.8),
    "vsGRPO-V 2B": (35.4, 53.6, 29.0, 52.7, 43.4, 28.1, 30.9, 26.8, 18.9),
    "Qwen2-VL-7B": (32.2, 39.4, 25.0, 25.8, 43.2, 32.6, 30.9, 27.8, 32.6),
    "7B + SFT": (38.1, 44.7, 27.6, 46.1, 50.4, 34.0, 35.7, 33.0, 33.4),
    "7B + DPO": (32.6, 39.1, 25.2, 26.5, 44.2, 32.6, 30.9, 29.3, 33.3),
    "vsGRPO-V 7B": (40.7, 59.9, 29.6, 50.8, 48.3, 35.4, 35.6, 34.0, 31.5),
}
