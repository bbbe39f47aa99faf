"""Speed of models, measured alternately."""
