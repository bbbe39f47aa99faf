"""What ``explain`` does: its models and images, what it draws, and the files that it writes."""
