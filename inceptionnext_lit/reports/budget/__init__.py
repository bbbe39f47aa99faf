"""Cost of models, compared with the paper."""
