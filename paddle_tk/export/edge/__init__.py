"""Edge devices: what each can run, a check of a model against it, estimates, and the bundle that is copied onto it."""
