"""Evaluation of segmentation models, as a page, JSON and tables."""
