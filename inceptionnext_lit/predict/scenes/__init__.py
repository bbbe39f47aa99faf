"""Predictions of segmentation models: masks, overlays, rows and polygons."""
