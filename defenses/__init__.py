"""The built-in defenses, one a module."""
