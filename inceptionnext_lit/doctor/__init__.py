"""Find problems in a folder of images by reading each image once."""
