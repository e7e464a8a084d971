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
# What moves entries in ways that depend on its arguments; found by moving numbers.
MOVED = {
    f"aten.{name}"
    for name in (
        "index.Tensor", "index_select.default", "gather.default", "take_along_dim.default",
        "repeat.default", "tile.default", "repeat_interleave.self_int", "narrow.default",
        "unfold.default", "im2col.default", "rot90.default", "diagonal.default", "tril.default",
        "triu.default", "hstack.default", "vstack.default", "dstack.default", "column_stack.default",
        "tensor_split.sections", "tensor_split.indices", "hsplit.int", "vsplit.int",
    )
}  # fmt: skip
# What adds two tensors.
ADDITIONS = {f"aten.{name}.Tensor" for name in ("add", "add_", "sub", "sub_")}
# What chooses the largest or the smallest entry: of two tensors, or along axes of one.
EXTREMES_OF_TWO = {
    "aten.maximum.default": 1, "aten.max.other": 1, "aten.clamp_min.Tensor": 1,
    "aten.minimum.default": -1, "aten.min.other": -1, "aten.clamp_max.Tensor": -1,
}  # fmt: skip
EXTREMES_OVER_AXES = {
    "aten.amax.default": 1, "aten.max.dim": 1, "aten.amin.default": -1, "aten.min.dim": -1,
}  # fmt: skip
# What compares the data with a number, and how.
COMPARISONS = {f"aten.{name}.Scalar": name for name in ("gt", "ge", "lt", "le")}
# What is linear between kinks, and has no rule.
PIECEWISE_LINEAR = {
    "aten.sort.default", "aten.sort.stable", "aten.msort.default", "aten.topk.default",
    "aten.kthvalue.default", "aten.median.dim", "aten.cummax.default", "aten.cummin.default",
    "aten.fractional_max_pool2d.default", "aten.fractional_max_pool3d.default", "aten.aminmax.default",
}  # fmt: skip
# What may be linear in the data, has no rule, and can be written otherwise.
_PRODUCTS = (
    "addbmm", "addmv", "baddbmm", "bilinear", "chain_matmul", "dot", "inner", "kron",
    "linalg_multi_dot", "outer", "tensordot",
)  # fmt: skip
_SUMS = ("col2im", "cumsum", "diff", "index_add", "scatter_add", "index_copy", "diag_embed")
UNREAD = {
    f"aten.{name}.default": why
    for names, why in (
        (
            _PRODUCTS,
            "this spelling of a product is not read; write one with parameters as linear, matmul, einsum "
            "or a convolution",
        ),
        (
            _SUMS,
            "it is linear in the data, and not read yet; write it with slices, sums and weights",
        ),
    )
    for name in names
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
# What runs over a prime field as it is, on residues: moves, what changes nothing, and products.
FIELD_MOVES = MOVES | MOVED | {
    f"aten.{name}"
    for name in (
        "_unsafe_view.default", "squeeze.dims", "unflatten.int", "movedim.int",
        "movedim.intlist", "moveaxis.int", "swapaxes.default", "swapdims.default",
        "expand_as.default", "view_as.default", "reshape_as.default",
        "chunk.default", "split.Tensor", "split_with_sizes.default",
        "split.sizes", "unbind.int", "roll.default",
        "cat.default", "concat.default", "concatenate.default", "stack.default",
        "positive.default", "neg.default",
    )
} | {"<built-in function getitem>"}  # fmt: skip
FIELD_IDENTITIES = {
    "aten.to.dtype", "aten._to_copy.default", "aten.to.dtype_layout", "aten.to.device",
    "aten.dropout.default", "aten.dropout_.default", "aten.feature_dropout.default",
    "aten.alpha_dropout.default", "aten.feature_alpha_dropout.default",
    # without a layer of gates these have no edges
    "aten.clamp.default", "aten.clamp_.default", "aten.clip.default", "aten.clip_.default",
    "aten.clamp_min.default", "aten.clamp_min_.default", "aten.clamp_max.default",
    "aten.clamp_max_.default", "aten.hardtanh.default", "aten.hardtanh_.default",
}  # fmt: skip
FIELD_PRODUCTS = {
    "aten.linear.default", "aten.matmul.default", "aten.mm.default", "aten.addmm.default",
    "aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default", "aten.conv1d.padding",
    "aten.conv2d.padding", "aten.conv3d.padding", "aten.bmm.default", "aten.mv.default",
    "aten.einsum.default",
}  # fmt: skip
