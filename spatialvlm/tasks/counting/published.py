"""Counting as paper A reports it: (accuracy, close-call) in percent, by model and data set."""

QWEN, SPACEQWEN = "Qwen/Qwen2.5-VL-3B-Instruct", "remyxai/SpaceQwen2.5-VL-3B-Instruct"
ACCURACY_AND_CLOSE_CALL = {
    QWEN: {
        "PixMo-Count": (44.81, 63.42),
        "CLEVR": (81.10, 96.81),
        "CV-Bench": (21.05, 56.67),
        "SAT": (70.49, 91.11),
    },
    SPACEQWEN: {
        "PixMo-Count": (45.37, 60.34),
        "CLEVR": (79.46, 99.47),
        "CV-Bench": (64.21, 72.34),
        "SAT": (76.6, 100.0),
    },
}
