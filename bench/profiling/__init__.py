"""Profiles of training, extrapolated from a few steps: time by phase and stage, memory, FLOP/s, a trace."""
