"""P2: Syrek, The Optimisation of Gradient Descent."""
