"""Cells in parallel on this machine, each in its own process."""
