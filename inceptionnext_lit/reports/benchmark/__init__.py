"""Speed of models, side by side."""
