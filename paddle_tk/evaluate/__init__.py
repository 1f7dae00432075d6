"""A loaded model and a split of annotated images -> figures, each with its sample count."""
