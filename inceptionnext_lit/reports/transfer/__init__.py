"""How well models transfer to other data sets: cached features, linear and nearest-neighbor classifiers, and tables."""
