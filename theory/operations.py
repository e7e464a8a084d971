"""Names of operations of exported graphs, by what they do."""

from __future__ import annotations

# What makes a constant in the shape of another tensor.
CREATORS = {
    f"aten.{name}.default"
    for name in (
        "ones_like",
        "zeros_like",
        "full_like",
        "new_ones",
        "new_zeros",
        "new_full",
        "empty_like",
    )
}
# What weights may act through, so that a constant can be their input.
WEIGHTED = {
    "aten.linear.default", "aten.matmul.default", "aten.mm.default", "aten.conv1d.default",
    "aten.conv2d.default", "aten.conv3d.default", "aten.conv1d.padding", "aten.conv2d.padding",
    "aten.conv3d.padding", "aten.conv_transpose1d.default", "aten.conv_transpose2d.input",
    "aten.conv_transpose3d.input",
}  # fmt: skip
# What moves entries and leaves their values.
MOVES = {
    "aten.t.default", "aten.transpose.int", "aten.permute.default", "aten.view.default",
    "aten.reshape.default", "aten.flatten.using_ints", "aten.unsqueeze.default",
    "aten.squeeze.dim", "aten.squeeze.default", "aten.slice.Tensor", "aten.select.int",
    "aten.expand.default", "aten.flip.default", "aten.clone.default", "aten.contiguous.default",
    "aten.detach.default", "aten.alias.default", "aten.numpy_T.default", "aten.mT.default",
    "aten.detach_.default", "aten.lift_fresh_copy.default",
}  # fmt: skip
# What adds two tensors.
ADDITIONS = {f"aten.{name}.Tensor" for name in ("add", "add_", "sub", "sub_")}
# What compares the data with a number, and how.
COMPARISONS = {f"aten.{name}.Scalar": name for name in ("gt", "ge", "lt", "le")}
# What is linear between kinks, and has no rule.
PIECEWISE_LINEAR = {
    "aten.amin.default", "aten.min.dim", "aten.min.other",
    "aten.minimum.default", "aten.softshrink.default",
    "aten.hardshrink.default", "aten.hardsigmoid.default", "aten.hardsigmoid_.default",
    "aten.clamp.Tensor", "aten.clamp_.Tensor", "aten.clamp_min.Tensor", "aten.clamp_max.Tensor",
}  # fmt: skip
# What may be linear in the data, has no rule, and can be written otherwise.
UNREAD = {
    "aten.einsum.default": "einsum is not read; write a product with parameters as linear, matmul or "
    "a convolution",
    "aten.index.Tensor": "tensors in brackets are not read as indices; pick with index_select or a "
    "slice",
}
# What runs a part of the graph of its own, and why that cannot be read.
SUBGRAPHS = {
    "cond": "the values of the data choose one of its branches, so it is no path network; use "
    "torch.where or gates",
    "while_loop": "the values of the data decide how often it runs, so it is no path network; "
    "repeat a fixed number of times",
    "wrap_with_autocast": "torch.autocast computes a part of the module in another type; leave "
    "it out of the forward",
}
