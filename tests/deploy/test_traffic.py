"""The builder's list of layers as bytes that move."""

from __future__ import annotations

from dad_edge.deploy.traffic import Traffic, read_layers, traffic_of

CONVOLUTION = (
    "Name: node_conv2d_1_myl0_7, LayerType: correlation, Inputs: [ { Name: a.1, "
    "Dimensions: [-1,8,16,16], Strides: [2048,1,128,8], StrideOrder: [3,0,2,1], Datatype: Half, "
    "Format: (NHWC) Channel major format }, { Name: b.1, Dimensions: [-1,8,16,16], "
    "Strides: [2048,1,128,8], StrideOrder: [3,0,2,1], Datatype: Int8, Format: (NHWC) }], "
    "Constants: [ { Name: w, Dimensions: [8,8,3,3], Strides: [72,1,24,8], StrideOrder: [3,0,2,1], "
    "Datatype: Half, Format: (NHWC) }, { Name: one, Dimensions: [], Strides: [], "
    "Datatype: Float, Format: (Linear) }], Outputs: [ { Name: c, Dimensions: [-1,8,16,16], "
    "Strides: [2048,256,16,1], Datatype: Float, Format: (Linear) Row major linear format }], "
    "TacticName: __myelin_CASK_STUB, StreamId: 0, Metadata: [ONNX Layer: node_conv2d_1]"
)
SOFTMAX = (
    "Name: __myl_MaxrSubExpSumDiv_myl0_70, LayerType: kgen, Inputs: [ { Name: s, "
    "Dimensions: [-1,4,64,64], Datatype: Half, Format: (Linear) }], Constants: [], Outputs: "
    "[ { Name: p, Dimensions: [-1,4,64,64], Datatype: Half, Format: (Linear) }], TacticName: "
)
SHAPES = "Name: n, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , "


def test_a_layer_moves_its_tensors_in_their_types() -> None:
    [layer] = read_layers(f"Layers:\n{CONVOLUTION}\n", rows=2)
    elements = 2 * 8 * 16 * 16
    assert (layer.name, layer.kind) == ("node_conv2d_1_myl0_7", "correlation")
    assert layer.activation_bytes == (2 + 1 + 4) * elements
    assert layer.float_bytes == 4 * elements
    assert layer.weight_bytes == 2 * 8 * 8 * 9 + 4


def test_all_layers_together() -> None:
    layers = read_layers("\n".join((CONVOLUTION, SOFTMAX, SHAPES)), rows=1)
    assert [layer.kind for layer in layers] == ["correlation", "kgen", "shape_call"]
    expected = Traffic(
        activation_bytes=7 * 2048 + 2 * 2 * 4 * 64 * 64,
        float_bytes=4 * 2048,
        weight_bytes=1156,
        kernels=2,
        unfused_attention=1,
    )
    assert traffic_of(layers) == expected
    assert expected.all_bytes == expected.activation_bytes + 1156


def test_what_is_no_list_of_layers_has_none() -> None:
    assert read_layers("Engine generation completed in 7 seconds.", rows=1) == []


def test_a_list_that_is_written_in_another_way_is_not_guessed_at() -> None:
    other = CONVOLUTION.replace("Datatype: Half", "Format/Datatype: Row major linear FP16")
    assert read_layers("\n".join((SOFTMAX, other)), rows=1) == []
