"""Poisoned training sets as files, for other trainers."""
