"""Which differences are more than noise. The unit is the seed, which draws poison, targets, initial weights and order anew."""
