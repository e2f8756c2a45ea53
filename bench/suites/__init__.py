"""Suites: tables and figures of papers as run matrices, with their published values."""
