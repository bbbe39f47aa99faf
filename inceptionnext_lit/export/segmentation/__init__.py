"""Export of segmentation models."""
