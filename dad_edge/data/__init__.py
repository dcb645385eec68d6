"""Images of good parts and of defects: where they lie, and what training draws from them."""
