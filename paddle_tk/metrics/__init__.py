"""Figures of merit, in NumPy: no framework is imported here."""
