"""What the statuses of the CUDA driver mean for a user."""

from __future__ import annotations

STICKY = frozenset(
    f"CUDA_ERROR_{name}"
    for name in (
        "ASSERT",
        "CONTAINED",
        "ECC_UNCORRECTABLE",
        "EXTERNAL_DEVICE",
        "HARDWARE_STACK_ERROR",
        "ILLEGAL_ADDRESS",
        "ILLEGAL_INSTRUCTION",
        "INVALID_ADDRESS_SPACE",
        "INVALID_PC",
        "LAUNCH_FAILED",
        "LAUNCH_TIMEOUT",
        "MISALIGNED_ADDRESS",
        "NVLINK_UNCORRECTABLE",
        "TENSOR_MEMORY_LEAK",
        "UNKNOWN",
    )
)
"""Statuses after which the context cannot be used any more."""

DOCTOR = "run 'dad-edge doctor'"
_KERNELS = (
    "'dad-edge doctor' names the CUDA version of the driver and tries its kernels; where they were "
    "compiled by a newer NVRTC, install an older one or update the driver, and build again"
)
NEXT_STEPS = {
    "CUDA_ERROR_OUT_OF_MEMORY": "close other programs on the GPU, or inspect fewer frames at once",
    "CUDA_ERROR_NO_DEVICE": "check the GPU with nvidia-smi and CUDA_VISIBLE_DEVICES; " + DOCTOR,
    "CUDA_ERROR_INVALID_DEVICE": "check CUDA_VISIBLE_DEVICES; " + DOCTOR,
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "restart the machine after the driver update",
    "CUDA_ERROR_SYSTEM_NOT_READY": "start the services of the GPU, such as the fabric manager",
    "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE": "update the NVIDIA driver",
    "CUDA_ERROR_NO_BINARY_FOR_GPU": _KERNELS,
    "CUDA_ERROR_INVALID_IMAGE": _KERNELS,
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": "update the NVIDIA driver",
}
REOPEN = (
    "close the inspector and open it again; if that fails too, restart the program; if it happens "
    "again, run the command under compute-sanitizer and report it"
)
RESTART = "restart the program: PyTorch holds memory of the lost device"
