"""Datasets: reading, splitting, transforming and loading images. Only ``loader`` imports a framework."""
