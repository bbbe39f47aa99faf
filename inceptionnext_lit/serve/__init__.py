"""An HTTP server that labels images."""
