"""Composed jobs, one module each."""
