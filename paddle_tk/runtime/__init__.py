"""Models on disk turned into predictors: a batch of images in, logits out, whatever computes them."""
