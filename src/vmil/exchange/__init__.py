"""Demonstrations of other software, converted and checked; and ours, for other software."""
