"""Prompting studies: strategies, worked examples, local and served models, and the study itself."""
