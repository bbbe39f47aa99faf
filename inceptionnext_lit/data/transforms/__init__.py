"""Transforms of images, with optional masks and boxes: augmentation, crops, erasing."""
