"""The package version, in one place."""

__version__ = "0.1.0"

BITS = 2
"""The number of the bits. It is raised whenever the same seed samples other sequences or trains other weights than before.

A run is resumed and replayed wherever the bits are the same, whatever the version. 1: up to the kernel that fused
multiply-adds as its compiler liked, and PyTorch's training. 2: sampling, scoring and training in portable arithmetic.
"""
