"""How the embedded model is made: scenes, then vision, then language. Run by `model/pretrain_embedded.py`."""
