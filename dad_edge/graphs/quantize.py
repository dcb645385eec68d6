"""Typed graphs: the precision of an engine is written into its ONNX graph.

Both transformations are pure: the same graph and ranges give the same bytes. The layer policy and
its reasons are in `calibration/README.md`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dad_edge.bundle import Bundle
from dad_edge.config import Precision
from dad_edge.errors import ModelError
from dad_edge.graphs.lint import lint
from dad_edge.runtime.sidecar import CPU_PAIR_LIMIT

if TYPE_CHECKING:
    import onnx

Rest = Literal["fp32", "fp16"]

Ranges = Mapping[str, tuple[float, float]]
"""Tensor → (minimum, maximum)."""

FLOAT_OPS = frozenset({"InstanceNormalization", "GroupNormalization", "LayerNormalization"})
"""Operators that sum squares over a whole feature map, which leaves the range of FP16."""
FLOAT_INPUTS = {"Resize": (1, 2)}
"""Inputs that the ONNX standard types as float32 whatever the data is."""
INT8_LIMIT = 127
"""Largest magnitude of a quantized value; -128 is left out, so that zero is in the middle."""
PAIR_LIMITS: Mapping[Rest, int | None] = {"fp32": CPU_PAIR_LIMIT, "fp16": None}
"""Largest sum of the magnitudes of two weights of a channel, by the precision of the layers that
INT8 leaves alone: FP32 on CPUs, FP16 on GPUs, whose sums have 32 bits and need no limit."""
ONE_WEIGHT_SCALE: Mapping[Rest, bool] = {"fp32": False, "fp16": True}
"""Whether the weights of a convolution share one scale. With one for each channel TensorRT writes
what a convolution computes in FP32, for another kernel to scale: more traffic than in FP16."""
LARGEST_FP16 = 65504.0
CALIBRATE = "run 'dad-edge calibrate --data FOLDER_OF_GOOD_PARTS'"


def typed_graph(
    bundle: Bundle,
    name: str,
    precision: Precision,
    *,
    rest: Rest,
    keep_float: Collection[str] = (),
) -> onnx.ModelProto:
    """One network of a bundle in a precision.

    Args:
        bundle: a checked bundle.
        name: file name of the network.
        precision: precision of the convolutions.
        rest: the precision of everything that INT8 leaves alone: `fp32` for CPUs, `fp16` for GPUs.
        keep_float: layers that INT8 leaves alone too, by `layer_name`.

    Raises:
        ModelError: the graph is damaged, INT8 lacks its calibration, or the result breaks a rule.
    """
    model = load_graph(bundle.path / name)
    if precision == "int8":
        ranges = bundle.calibration.ranges.get(name) if bundle.calibration else None
        if ranges is None:
            raise ModelError(
                f"{bundle.path} has no activation ranges for {name}; INT8 needs them.", CALIBRATE
            )
        model = to_int8(
            model,
            ranges,
            keep_float,
            pair_limit=PAIR_LIMITS[rest],
            one_weight_scale=ONE_WEIGHT_SCALE[rest],
        )
    if precision == "fp16" or (precision == "int8" and rest == "fp16"):
        model = to_fp16(model)
    if problems := lint(model):
        raise ModelError(
            f"the {precision} graph of {name} breaks the rules: {'; '.join(problems)}.",
            "build another precision, and report this as a bug",
        )
    return model


def load_graph(path: Path) -> onnx.ModelProto:
    """A graph of a bundle.

    Raises:
        ModelError: the file is not an ONNX graph.
    """
    import onnx

    try:
        return onnx.load(path)
    except Exception as error:  # protobuf's exception type depends on its implementation
        raise ModelError(f"{path} is not an ONNX graph: {error}.", "export it again") from error


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in FP16 between casts; inputs, outputs and `FLOAT_OPS` stay float32.

    The first convolution stays float32 too: in the segmenter it takes the small difference between
    the image and its estimate, which rounding both to FP16 would drown.

    Raises:
        ModelError: a weight is outside the range of FP16, or the types do not fit together.
    """
    from onnx import TensorProto, helper, numpy_helper

    model = _copy(model)
    graph = model.graph
    half, single = TensorProto.FLOAT16, TensorProto.FLOAT
    weights = {w.name: w for w in graph.initializer if w.data_type == single}
    as_half: dict[str, str] = {}
    as_single: set[str] = set()
    nodes: list[onnx.NodeProto] = []

    def cast(source: str, target: str, to: int) -> None:
        nodes.append(helper.make_node("Cast", [source], [target], f"{target}_cast", to=to))

    inputs = {v.name for v in graph.input if v.type.tensor_type.elem_type == single}
    first = {node.output[0] for node in convolutions(model)[:1]}
    for node in graph.node:
        is_float = node.op_type in FLOAT_OPS or node.output[0] in first
        for index, source in enumerate(node.input):
            if source in weights:
                if is_float or index in FLOAT_INPUTS.get(node.op_type, ()):
                    as_single.add(source)
                else:
                    as_half.setdefault(source, f"{source}_fp16")
                    node.input[index] = as_half[source]
            elif source in inputs:
                if not is_float and node.op_type != "Shape":
                    if source not in as_half:
                        as_half[source] = f"{source}_fp16"
                        cast(source, as_half[source], half)
                    node.input[index] = as_half[source]
            elif is_float and source:
                widened = f"{source}_{node.name or node.output[0]}_fp32"
                cast(source, widened, single)
                node.input[index] = widened
        _retype_attributes(node)
        nodes.append(node)
        if is_float:
            narrow = node.output[0]
            node.output[0] = f"{narrow}_fp32"
            cast(node.output[0], narrow, half)
    for value in graph.output:
        if value.type.tensor_type.elem_type == single:
            inner = f"{value.name}_fp16"
            _rename(nodes, value.name, inner)
            cast(inner, value.name, single)

    kept = [w for w in graph.initializer if w.name not in weights or w.name in as_single]
    for name, weight in weights.items():
        if name in as_half:
            values = numpy_helper.to_array(weight)
            if not np.all(np.abs(values) <= LARGEST_FP16):
                raise ModelError(
                    f"weight {name} is outside the range of FP16 (±{LARGEST_FP16:.0f}).",
                    "build with '--precision fp32'",
                )
            kept.append(numpy_helper.from_array(values.astype(np.float16), as_half[name]))
    return _rebuilt(model, nodes, kept)


def _retype_attributes(node: onnx.NodeProto) -> None:
    """A float32 value that a node makes by itself becomes FP16."""
    from onnx import TensorProto, numpy_helper

    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        elif attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(attribute.t).astype(np.float16)
            attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))


def _rename(nodes: list[onnx.NodeProto], old: str, new: str) -> None:
    for node in nodes:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new


def to_int8(
    model: onnx.ModelProto,
    ranges: Ranges,
    keep_float: Collection[str] = (),
    *,
    pair_limit: int | None = None,
    one_weight_scale: bool = False,
) -> onnx.ModelProto:
    """The graph with explicit Q/DQ nodes at the inputs of its 2-D convolutions.

    Symmetric, zero point 0; activations per tensor, weights per output channel or, where a runtime
    computes that faster, all of a convolution with one scale. The first and the last convolution
    stay float, and so do biases. Every scale is a number that FP16 can hold, so the rest of the
    graph may be made FP16 afterwards without moving a quantization level.

    Args:
        model: the FP32 graph.
        ranges: of the inputs of its convolutions.
        keep_float: layers that stay float as well, by `layer_name`.
        pair_limit: largest sum of the magnitudes of any two quantized weights of a channel; no
            limit if None.
        one_weight_scale: whether the weights of a convolution share one scale.

    Raises:
        ModelError: a convolution's input has no range, or `keep_float` names no layer.
    """
    from onnx import helper, numpy_helper

    model = _copy(model)
    graph = model.graph
    weights = {w.name: w for w in graph.initializer}
    layers = {layer_name(node): node.output[0] for node in inner_convolutions(model)}
    for name in keep_float:
        if name not in layers:
            raise ModelError(
                f"{graph.name} has no INT8 layer '{name}'.", "choose the layers again: '--max-drop'"
            )
    chosen = {output for name, output in layers.items() if name not in keep_float}
    added: dict[str, onnx.TensorProto] = {}
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, values: NDArray[Any]) -> str:
        added[name] = numpy_helper.from_array(values, name)
        return name

    def dequantize(quantized: str, scale: str, zero: str, name: str, axis: int | None) -> None:
        inputs = [quantized, scale, zero]
        nodes.append(helper.make_node("DequantizeLinear", inputs, [name], name, axis=axis))

    for node in graph.node:
        if node.op_type == "Conv" and node.output[0] in chosen:
            source, weight = node.input[0], node.input[1]
            if f"{source}_scale" not in added:
                if source not in ranges:
                    raise ModelError(f"tensor '{source}' has no activation range.", CALIBRATE)
                peak = max(abs(bound) for bound in ranges[source])
                scale = constant(f"{source}_scale", _scales(np.asarray(peak / INT8_LIMIT)))
                zero = constant(f"{source}_zero", np.zeros((), np.int8))
                quantized = f"{source}_q"
                nodes.append(
                    helper.make_node(
                        "QuantizeLinear", [source, scale, zero], [quantized], quantized
                    )
                )
                dequantize(quantized, scale, zero, f"{source}_dq", None)
            node.input[0] = f"{source}_dq"
            if f"{weight}_q" not in added:
                values = numpy_helper.to_array(weights[weight])
                steps = _weight_steps(values, pair_limit)
                scales = _scales(steps.max() if one_weight_scale else steps)
                levels = _whole(values / scales.reshape(-1, 1, 1, 1)).astype(np.int8)
                dequantize(
                    constant(f"{weight}_q", levels),
                    constant(f"{weight}_scale", scales),
                    constant(f"{weight}_zero", np.zeros(scales.shape, np.int8)),
                    f"{weight}_dq",
                    None if one_weight_scale else 0,
                )
            node.input[1] = f"{weight}_dq"
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [w for w in graph.initializer if w.name in used]
    return _rebuilt(model, nodes, [*kept, *added.values()])


def convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """2-D convolutions with constant weights, in the order of the graph."""
    four = {w.name for w in model.graph.initializer if len(w.dims) == 4}
    return [n for n in model.graph.node if n.op_type == "Conv" and n.input[1] in four]


def inner_convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The convolutions that INT8 is for: all but the first and the last."""
    return convolutions(model)[1:-1]


def layer_name(node: onnx.NodeProto) -> str:
    """Name of a convolution for people: that of its module, such as `denoiser.up.3.block.skip`."""
    weight: str = node.input[1]
    return weight.removesuffix(".weight")


def _weight_steps(values: NDArray[Any], pair_limit: int | None) -> NDArray[np.float64]:
    """The smallest step of every channel's weights that keeps to the limits.

    A pair of weights gets one less than its limit: rounding both up adds less than 2 to a sum.
    """
    sizes = np.sort(np.abs(values).reshape(len(values), -1).astype(np.float64), axis=1)
    steps = sizes[:, -1] / INT8_LIMIT
    if pair_limit is not None:
        steps = np.maximum(steps, sizes[:, -2:].sum(axis=1) / (pair_limit - 1))
    return steps


def _whole(values: NDArray[Any]) -> NDArray[Any]:
    """Weights rounded down or up so that the sum of every 2-D kernel is off by half a step at most.

    Neighbouring activations are alike. Rounding every weight to the nearest whole number would let
    the errors of a kernel add up on all of them.

    Args:
        values: (O,I,H,W) weights in steps.
    """
    kernels = values.reshape(*values.shape[:2], -1).astype(np.float64)
    floors = np.floor(kernels)
    ups = np.rint((kernels - floors).sum(axis=2, keepdims=True))
    order = np.argsort(floors - kernels, axis=2, kind="stable")
    places = np.argsort(order, axis=2, kind="stable")
    rounded: NDArray[np.float64] = floors + (places < ups)
    return rounded.reshape(values.shape)


def _scales(steps: NDArray[Any]) -> NDArray[np.float32]:
    """Steps rounded up to FP16; a step of 0, which carries nothing, becomes 1."""
    exact = np.where(steps > 0, steps, 1).astype(np.float64)
    rounded = exact.astype(np.float16)
    up = np.nextafter(rounded, np.float16(np.inf), dtype=np.float16)
    return np.where(rounded < exact, up, rounded).astype(np.float32)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _rebuilt(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto]
) -> onnx.ModelProto:
    """The model with other nodes and weights, its types inferred anew and checked."""
    import onnx

    nodes, weights = list(nodes), list(weights)
    for field, values in (("node", nodes), ("initializer", weights), ("value_info", [])):
        model.graph.ClearField(field)
        getattr(model.graph, field).extend(values)
    try:
        onnx.checker.check_model(model)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"the graph cannot be made in this precision: {reason}.",
            "build with '--precision fp32'",
        ) from error
    return model
