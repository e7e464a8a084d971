"""Which statement theory says holds on which family.

Written down, so that a hypothesis that wrongly fails, or wrongly passes, turns a run red.
"""

from __future__ import annotations

from reluctant.theory.statements import Statement
from reluctant.theory.verdicts import Outcome

# Columns of the table, in order.
FAMILIES = (
    "FC",
    "FC, biases",
    "conv 1-D, circular, average pool",
    "conv 2-D, circular, average pool",
    "conv, circular, biases",
    "conv, zero padding",
    "conv, circular, flatten",
    "conv, circular, max pool",
    "conv, circular, max pool, first",
    "conv, circular, stride 2",
    "conv, batch norm, zero padding",
    "residual FC",
    "residual conv, circular",
    "shared branches",
    "DGN, hard",
    "DGN, soft",
    "DGN, copied start",
    "DGN conv, hard",
    "DGN conv, soft, ones",
    "DLGN, hard",
    "DLGN, soft, ones",
    "DLGN conv, hard",
    "DLGN conv, window 1",
    "DLGN-SF, hard",
)

# H: the hypotheses hold on every member. s: on some, by the sizes that are drawn. A dot: on none.
HOLDS_ON = {
    "dual.inner-product": "HHHHHHHHHHHHHHHHHHHHHHHH",
    "dual.path-count": "HHsss......H..HHHs.HHssH",
    "dual.npk-hadamard": "H.............HHH..HH..H",
    "dual.npk-overlap": "H.....H..s.H..H.H..H...H",
    "dual.psd": "HHHHHHHHHHHHHHHHHHHHHHHH",
    "dual.homogeneous": "H.HH.HH.HH.HHH..........",
    "dual.relu-is-dgn": "HHHHHHH..H.HHH..........",
    "dual.permute-units": "HHHHHHHHHH.s............",
    "dual.rescale": "HHHHHHH.HH.s............",
    "dual.ntk-factor": "HHHHHHH.HHHHHHH.HH.s.HHH",
    "dual.min-eig": "HHHHHHH.HHHHHHH.HH.H.HHH",
    "dual.dgn-ntk-split": "..............HHHHHsHHHH",
    "dual.frozen-gates-linear": "HHHHHHHHHHHHHHHHHHHHHHHH",
    "ntk.path-decoupling": "HHHHHHHHHHHHHHHHHHHHHHHH",
    "ntk.fc-expectation": "H.............HHH..HH..H",
    "ntk.fc-limit": "H.............sss..s...s",
    "ntk.fc-variance": "H.............H.H..HH..H",
    "ntk.fc-variance-printed": "H.............HHH..HH..H",
    "ntk.dependent-gates": "..............HH.HHHHHHH",
    "ntk.constant-input": "....................H...",
    "conv.equivariant": "..HHH..HHs..H....HH..HH.",
    "conv.npk-rotation-sum": "..HH.............H...HH.",
    "conv.npk-invariant": "..HHH..H.s..H....HH..HH.",
    "conv.ntk": "..HH.............HH..HH.",
    "conv.constant-input": "..HHH..H.s..H....HH..HH.",
    "conv.max-pool": ".......HH...............",
    "skip.output-ensemble": "...........HH...........",
    "skip.npk-ensemble": "...........HH...........",
    "skip.ntk": "...........HH...........",
    "skip.linear-count": "...........s............",
    "dlgn.primal-linear": ".................s.H.HHH",
    "dlgn.dual-linear": "..............HHHHHHHHHH",
    "dlgn.permute-layers": "s.............HHH..HH..H",
    "dlgn.permute-layers-conv": "s.............HHH..HH.sH",
}


def expected_outcomes(statement: Statement, family: str) -> tuple[Outcome, ...]:
    """Return the outcomes that theory admits for a statement on a family, the first preferred.

    A statement or a family that the table does not name is expected to hold.
    """
    row = HOLDS_ON.get(statement.id)
    mark = "H" if row is None or family not in FAMILIES else row[FAMILIES.index(family)]
    if mark == ".":
        return (Outcome.NOT_IMPLIED,)
    return (statement.expected,) if mark == "H" else (statement.expected, Outcome.NOT_IMPLIED)
