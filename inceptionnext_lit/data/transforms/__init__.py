"""Transforms of images, jointly with their masks and boxes if there are any: augmentation, crops, erasing."""
