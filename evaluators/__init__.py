"""The built-in evaluators, one a module."""
