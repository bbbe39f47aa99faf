"""What is wrong with a folder of images, found by reading each of them once."""
