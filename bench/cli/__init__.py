"""The command line, one command a file, loaded when it is called."""

from .main import main

__all__ = ["main"]
