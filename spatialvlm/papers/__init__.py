"""The three papers: arguments, tests, arms of the studies and their tables."""
