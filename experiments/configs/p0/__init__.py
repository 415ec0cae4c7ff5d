"""P0: Granziol et al., Beyond SGD: Iterate Averaged Adaptive Gradient Methods."""
