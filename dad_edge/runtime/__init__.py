"""Frames in, verdicts out."""
