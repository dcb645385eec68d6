"""CUDA kernels of the inspection steps: `inject.cu`, `restore.cu`, `pool.cu`, and their compiler."""
