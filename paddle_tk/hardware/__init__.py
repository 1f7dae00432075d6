"""What a training needs of a machine: predicted memory, and how to split a batch."""
