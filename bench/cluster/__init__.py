"""Cells on a Ray cluster, one task each."""
