"""The page of a running line, and its interface for machines."""
