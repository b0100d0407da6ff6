"""Where the pieces meet: the Lightning module, its callbacks, and a run from start to end."""
