"""The CUDA kernels of inject, restore and pool, and their compiler."""
