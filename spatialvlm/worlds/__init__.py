"""Rendered worlds: CLEVR's objects, furnished rooms, and labelled points on a plane."""
