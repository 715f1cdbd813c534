"""Teaching small vision-language models to reason about space."""

__version__ = "0.1.0"
