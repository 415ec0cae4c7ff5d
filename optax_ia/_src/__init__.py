"""Shared, private parts of the core. Nothing here is public API."""
