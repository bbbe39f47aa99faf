"""Image files as pixels: formats, limits, and files that cannot be read."""
