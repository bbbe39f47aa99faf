"""Masks for semantic segmentation: finding, reading and checking them, whatever tool made them."""
