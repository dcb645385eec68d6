"""Speed on this machine: measured rows, their limits, and estimates for other devices."""
