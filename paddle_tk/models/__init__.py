"""Networks, their weights and their loss. Importing this package or ``classifiers`` loads no framework."""
