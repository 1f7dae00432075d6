"""The same network in Paddle and in torch: same weights, same batches, measured in fresh processes."""
