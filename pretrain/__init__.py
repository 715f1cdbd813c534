"""How the embedded model is made: scenes, then vision, then language. Run by `python -m pretrain.embedded`."""
