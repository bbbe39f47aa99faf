"""Static int8 forms of exported classifiers, calibrated on images and judged by their accuracy."""
