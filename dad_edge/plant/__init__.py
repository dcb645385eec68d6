"""Products in bulk: every stage of each of them, as far as something has changed."""
