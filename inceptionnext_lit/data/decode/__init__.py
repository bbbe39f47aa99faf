"""Decoding of image files: formats, limits, and files that cannot be read."""
