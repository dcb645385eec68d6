"""Inspection on a CPU, or wherever PyTorch puts it."""
