"""How fast a model is and what memory it takes, measured on the machine at hand."""
