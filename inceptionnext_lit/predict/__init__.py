"""Apply a trained classifier: in Python, and to files."""
