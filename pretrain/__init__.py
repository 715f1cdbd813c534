"""How the embedded model is made: scenes, then vision, then language (`python -m pretrain.embedded`)."""
