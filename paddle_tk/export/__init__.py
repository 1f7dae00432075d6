"""Trained networks as ONNX files, and the proof that they compute the same."""
