"""Cells of a matrix side by side on this machine, each in a process of its own."""
