"""Triton kernels of the token mixers, for NVIDIA GPUs. Triton is imported only where a kernel is run."""
