"""How good a classifier is, where it is wrong, and how far its probabilities can be trusted."""
