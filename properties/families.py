"""The networks that statements are tried on: families from which Hypothesis draws specimens."""

from __future__ import annotations

from hypothesis import strategies as st

from reluctant.models import (
    Hard,
    Regime,
    Soft,
    ValueInput,
    make_dgn,
    make_dlgn,
    make_dlgn_sf,
)
from reluctant.properties.networks import (
    concatenated,
    convolution,
    dense,
    equal_dense,
    gated,
    leaky,
    narrow,
    normed,
    residual,
    shared,
    staged,
)
from reluctant.properties.specimens import Family

_FIXED = {"regime": st.sampled_from([Regime.FRNPF_II, Regime.FLNPF]), "gate": Hard()}
_COPIED = {"regime": Regime.FRNPF_DI, "gate": Hard()}
_LEARNT = {
    "regime": Regime.DLNPF,
    "gate": st.builds(Soft, st.sampled_from([10.0, 4.0, 1.0]), st.sampled_from([0.0, 0.1])),
}
_ONES = {"value_input": ValueInput.ONES}
_CIRCULAR = convolution(1)

FAMILIES: tuple[Family, ...] = tuple(
    Family(name, build, dependent=name == "DGN, copied start")
    for name, build in (
        ("FC", dense()),
        ("FC, biases", dense(bias=True)),
        ("FC, leaky", leaky),
        ("conv 1-D, circular, average pool", _CIRCULAR),
        ("conv 2-D, circular, average pool", convolution(2)),
        ("conv, circular, biases", convolution(1, bias=True)),
        ("conv, zero padding", convolution(1, padding="zero")),
        ("conv, circular, flatten", convolution(1, pool="flatten")),
        ("conv, circular, max pool", convolution(1, pool="max")),
        ("conv, circular, max pool, first", convolution(1, pool="max", ties="first")),
        ("conv, circular, stride 2", convolution(1, stride=2)),
        ("conv, batch norm, zero padding", normed),
        ("residual FC", residual(False)),
        ("residual conv, circular", residual(True)),
        ("shared branches", shared),
        ("DGN, hard", gated(equal_dense, make_dgn, **_FIXED)),
        ("DGN, soft", gated(equal_dense, make_dgn, **_LEARNT)),
        ("DGN, copied start", gated(equal_dense, make_dgn, **_COPIED)),
        ("DGN conv, hard", gated(_CIRCULAR, make_dgn, **_FIXED)),
        ("DGN conv, soft, ones", gated(_CIRCULAR, make_dgn, **_LEARNT, **_ONES)),
        ("DLGN, hard", gated(equal_dense, make_dlgn, **_FIXED)),
        ("DLGN, soft, ones", gated(equal_dense, make_dlgn, **_LEARNT, **_ONES)),
        ("DLGN conv, hard", gated(_CIRCULAR, make_dlgn, **_FIXED)),
        ("DLGN conv, window 1", gated(convolution(1, window=1), make_dlgn, **_FIXED)),
        ("DLGN, soft", gated(narrow(), make_dlgn, **_LEARNT)),
        ("DLGN, hard, biases", gated(narrow(bias=True), make_dlgn, **_FIXED)),
        ("DGN, hard, ones", gated(equal_dense, make_dgn, **_FIXED, **_ONES)),
        ("DGN conv, max pool", gated(convolution(1, pool="max"), make_dgn, **_FIXED)),
        ("concatenated FC", concatenated),
        ("DGN residual FC", gated(residual(False), make_dgn, **_FIXED)),
        ("DLGN residual FC", gated(residual(False), make_dlgn, **_FIXED)),
        ("DGN conv 2-D, hard", gated(convolution(2), make_dgn, **_FIXED)),
        ("DLGN conv 2-D, hard", gated(convolution(2), make_dlgn, **_FIXED)),
        ("DGN residual conv", gated(residual(True), make_dgn, **_FIXED)),
        ("DLGN residual conv", gated(residual(True), make_dlgn, **_FIXED)),
        ("stages, batch norm, zero padding", staged),
        ("DLGN stages, batch norm", gated(staged, make_dlgn, **_FIXED)),
        ("DLGN-SF, hard", gated(equal_dense, make_dlgn_sf, frozen=True, gate=Hard())),
    )
)
