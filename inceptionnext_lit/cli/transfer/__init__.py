"""What ``transfer`` does: the models and data sets, and a fine-tuning or probe for each pair."""
