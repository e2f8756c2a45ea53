"""The tables and figures of Yang et al. 2024 (ICML) as matrices, with the values they publish."""
