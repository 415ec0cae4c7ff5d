"""Training loops, one readable module per task."""
