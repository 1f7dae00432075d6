"""One module per dataset layout; each has one function that returns a ``DatasetBundle``."""
