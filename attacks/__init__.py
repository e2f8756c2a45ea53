"""The built-in attacks, one a module."""
