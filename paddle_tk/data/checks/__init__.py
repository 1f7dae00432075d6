"""What can be wrong with a dataset on disk, one module per format; unlike the readers, they go on after a fault."""
