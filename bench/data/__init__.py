"""Data sources, one a module, and the pipeline from a source to a training batch."""
