"""P3: Keskar and Socher, Improving Generalization Performance by Switching."""
