"""ONNX graphs: the backbone, what is put on it, how it is run, timed and quantized."""
