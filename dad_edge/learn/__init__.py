"""Training: from images of good parts to a run that can be evaluated and exported."""
