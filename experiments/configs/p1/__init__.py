"""P1: Granziol et al., Explaining the Adaptive Generalisation Gap."""
