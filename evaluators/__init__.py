"""Evaluators, one a file."""
