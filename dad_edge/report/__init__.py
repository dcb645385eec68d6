"""What a test set says about a model: figures, and a report for people and machines."""
