"""Parsing: the answer of a generated text, as a careful person would read it."""
