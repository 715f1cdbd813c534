"""Evaluation: answers to a benchmark's questions, their scores with intervals, and comparisons of runs."""
