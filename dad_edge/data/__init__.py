"""Images of good parts and of defects."""
