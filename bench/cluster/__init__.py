"""A matrix on a Ray cluster: a task a cell."""
