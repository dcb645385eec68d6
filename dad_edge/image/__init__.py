"""How a frame becomes model input, and pictures of the result."""
