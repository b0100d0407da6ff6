"""How fast it is: a table of medians, an honest reference beside it, and the floor that arithmetic sets."""
