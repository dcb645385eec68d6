"""Peak figures of other devices, as their maker publishes them."""

from __future__ import annotations

from dataclasses import dataclass

from dad_edge.bench.names import DeviceName


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
        source="NVIDIA, Jetson Orin Nano Series Modules data sheet DS-11105-001 v1.5: 33 TOPS "
        "dense INT8 (67 sparse), 1020 MHz, 102 GB/s; 17 TFLOPS FP16 from the developer blog on the "
        "Super kit. Without MAXN SUPER: 20 and 10, 625 MHz, 68 GB/s",
    ),
    "orin-nx": DevicePeak(
        title="Jetson Orin NX 16 GB, GPU alone, MAXN SUPER",
        fp16_tflop_per_s=19.2,
        int8_top_per_s=38.4,
        gbyte_per_s=102.4,
        source="NVIDIA, Jetson Orin NX Series Modules data sheet DS-10712-001 v1.5: 157 TOPS "
        "sparse INT8, 80 of them on the two DLA; the rest is 1024 dense operations a clock of each "
        "of 32 tensor cores at 1173 MHz; FP16 half of INT8, as on the AGX Orin; 128 bit at 3200 "
        "MHz. Without MAXN SUPER: 918 MHz, 30 and 15",
    ),
    "agx-orin": DevicePeak(
        title="Jetson AGX Orin 64 GB, GPU alone, MAXN",
        fp16_tflop_per_s=42.5,
        int8_top_per_s=85,
        gbyte_per_s=204.8,
        source="NVIDIA, Jetson AGX Orin Series data sheet DS-10662-001 v1.6: GPU at 1.3 GHz, 170 "
        "TOPS sparse INT8 and 85 TFLOPS sparse FP16, half of them dense; 204.8 GB/s. The 275 TOPS "
        "of its title are sparse and count the two DLA",
    ),
    "thor": DevicePeak(
        title="Jetson Thor (T5000), MAXN",
        fp16_tflop_per_s=258.5,
        int8_top_per_s=517,
        gbyte_per_s=273,
        source="NVIDIA, developer blog Introducing NVIDIA Jetson Thor: 1035 TOPS INT8 and 517 "
        "TFLOPS FP16, both sparse, half of them dense. The Thor Series Modules data sheet "
        "DS-11945-001 names FP4 and FP8: 517 TFLOPS dense FP8 at 1.575 GHz, 455 in the 120 W mode; "
        "273 GB/s",
    ),
    "l4": DevicePeak(
        title="L4",
        fp16_tflop_per_s=121,
        int8_top_per_s=242,
        gbyte_per_s=300,
        source="NVIDIA, Ada GPU architecture whitepaper v2.02, table of the L4: 121 TFLOPS FP16 "
        "and 242 TOPS INT8, both dense; 300 GB/s. The 242 and 485 of its data sheet are sparse",
    ),
    "rtx-4090": DevicePeak(
        title="GeForce RTX 4090",
        fp16_tflop_per_s=165.2,
        int8_top_per_s=660.6,
        gbyte_per_s=1008,
        source="NVIDIA, Ada GPU architecture whitepaper v2.02, appendix A, table 2: 165.2 TFLOPS "
        "FP16 with FP32 accumulation (330.3 with FP16), 660.6 TOPS INT8, all dense; 1008 GB/s",
    ),
    "h100": DevicePeak(
        title="H100 SXM5 80 GB",
        fp16_tflop_per_s=989.4,
        int8_top_per_s=1978.9,
        gbyte_per_s=3352,
        source="NVIDIA, H100 architecture whitepaper v1.04, tables 1 and 3: 989.4 TFLOPS FP16 and "
        "1978.9 TOPS INT8, both dense; 3352 GB/s. The PCIe card: 756 and 1513, 2039 GB/s",
    ),
}
"""Every figure is a peak that the maker states; this project measured none of them.

The data sheets of the three Orin modules were read. The figures of Thor, L4, RTX 4090
and H100, and the FP16 of the Orin Nano, were checked only where other public texts quote the
document that is named.
"""
