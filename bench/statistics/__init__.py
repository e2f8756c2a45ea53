"""Which differences are more than noise. The unit is the seed: poison, initial weights, order and targets are drawn anew with it."""
