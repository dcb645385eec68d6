"""What can run here, and why the rest cannot."""
