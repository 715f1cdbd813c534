"""How the embedded model is made: scenes, then vision, then language (`python -m pretrain.embedded`)."""

import spatialvlm.cli  # noqa: F401 - before transformers, whose notices it hides
