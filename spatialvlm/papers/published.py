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
