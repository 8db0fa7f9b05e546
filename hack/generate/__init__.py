"""Writes every file that is generated from the code: `python -m generate`."""
