"""vmil: visual imitation by planning in a learnt, variational model of the world."""

__version__ = "0.1.0"
