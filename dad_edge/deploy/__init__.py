"""A checkpoint becomes a bundle, and a bundle gets engines."""
