"""Cells on a cluster, one task each: on Ray, or as Slurm jobs through submitit."""
