"""Peak figures of devices that are not at hand, as their maker publishes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DeviceName = Literal["orin-nano", "orin-nx", "agx-orin", "thor", "l4", "rtx-4090", "h100"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DevicePeak:
    """Dense peaks of one device: what its tensor cores do without structured sparsity."""

    title: str
    fp16_tflop_per_s: float
    """FP16 products; accumulated in FP32 where that is what the data sheet names."""
    int8_top_per_s: float
    gbyte_per_s: float
    """Memory bandwidth."""
    source: str
    """The document, and how a dense figure follows from it where it names only the sparse one."""


DEVICES: dict[DeviceName, DevicePeak] = {
    "orin-nano": DevicePeak(
        title="Jetson Orin Nano 8 GB, MAXN SUPER",
        fp16_tflop_per_s=17,
        int8_top_per_s=33,
        gbyte_per_s=102,
        source="NVIDIA, Jetson Orin Nano Super Developer Kit: 67 TOPS sparse, 33 dense INT8, "
        "17 TFLOPS FP16, 102 GB/s. Without Super mode (15 W): 20 and 10, 68 GB/s",
    ),
    "orin-nx": DevicePeak(
        title="Jetson Orin NX 16 GB, GPU alone",
        fp16_tflop_per_s=15,
        int8_top_per_s=30,
        gbyte_per_s=102.4,
        source="NVIDIA, Jetson Orin NX Series data sheet: 32 tensor cores at 918 MHz, 102.4 GB/s; "
        "512 dense FP16 operations a clock and core. The 100 TOPS of its title are sparse and "
        "count the two DLA",
    ),
    "agx-orin": DevicePeak(
        title="Jetson AGX Orin 64 GB, GPU alone",
        fp16_tflop_per_s=42.5,
        int8_top_per_s=85,
        gbyte_per_s=204.8,
        source="NVIDIA, Jetson AGX Orin Series technical brief: GPU 170 TOPS sparse INT8, half of "
        "it dense; FP16 half of INT8; 204.8 GB/s. The 275 TOPS of its title are sparse and count "
        "the two DLA",
    ),
    "thor": DevicePeak(
        title="Jetson Thor (T5000)",
        fp16_tflop_per_s=258,
        int8_top_per_s=517,
        gbyte_per_s=273,
        source="NVIDIA, Jetson Thor Series Modules data sheet: 2070 TFLOPS sparse FP4, 273 GB/s; "
        "dense FP8 and INT8 a quarter of that, dense FP16 an eighth",
    ),
    "l4": DevicePeak(
        title="L4",
        fp16_tflop_per_s=121,
        int8_top_per_s=242.5,
        gbyte_per_s=300,
        source="NVIDIA, L4 data sheet: 242 TFLOPS FP16 and 485 TOPS INT8 with sparsity, half of "
        "them dense; 300 GB/s",
    ),
    "rtx-4090": DevicePeak(
        title="GeForce RTX 4090",
        fp16_tflop_per_s=165.2,
        int8_top_per_s=660.6,
        gbyte_per_s=1008,
        source="NVIDIA, Ada GPU architecture whitepaper, appendix A: 165.2 TFLOPS FP16 with FP32 "
        "accumulation (330.3 with FP16), 660.6 TOPS INT8, all dense; 1008 GB/s",
    ),
    "h100": DevicePeak(
        title="H100 SXM5 80 GB",
        fp16_tflop_per_s=989.4,
        int8_top_per_s=1978.9,
        gbyte_per_s=3350,
        source="NVIDIA, H100 data sheet: 1979 TFLOPS FP16 and 3958 TOPS INT8 with sparsity, half "
        "of them dense; 3.35 TB/s",
    ),
}
"""Every figure is a peak of the maker's; none was measured by this project."""
