"""Data sources, one file each, and what stands between a source and a training step."""
