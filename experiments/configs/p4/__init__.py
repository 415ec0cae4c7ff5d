"""P4: Hosseini, Tuli, Plataniotis, Exploiting Explainable Metrics for Augmented SGD."""
