"""Rendered worlds: CLEVR's objects, also in rooms, and labelled points on a plane."""
