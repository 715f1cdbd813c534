"""What Sparkle reports (arXiv 2410.16162), in percent, to be printed beside what was measured."""

# Composite tasks before and after training on basic capabilities alone: (model, before, after).
COMPOSITE = {
    "path_4x4": (("GLM-4V", 16.5, 36.5), ("MiniCPM", 17.0, 31.5)),
    "path_5x5": (("InternVL2-8B", 13.5, 40.0),),
}
