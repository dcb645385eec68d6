"""What is done to an ONNX graph: precisions, rules that it must keep, and what it costs."""
