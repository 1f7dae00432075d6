"""A float ONNX graph and the ranges of its activations -> an INT8 graph in QDQ form."""
