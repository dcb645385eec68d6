"""What a test set says about a model."""
