"""What INT8 needs to know of a network: ranges of activations, scales of weights, training with both in the loop."""
