"""Configurations: one module per paper and table, its docstring the lab note."""
