"""What ``evaluate`` does: the models to compare, their metrics, and the files that it writes."""
