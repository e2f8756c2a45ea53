"""The built-in attacks, one per module."""
