"""From finished runs to figures: what the notebooks call, and nothing that learns."""
