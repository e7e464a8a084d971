"""Statements, verdicts and records of the size and kind that a real report has."""

from __future__ import annotations

from dataclasses import dataclass

from reluctant.reports.chains import make_chains
from reluctant.reports.comparison import judged
from reluctant.reports.document import Document, Section
from reluctant.reports.exhibits import (
    Column,
    Figure,
    Provenance,
    Table,
    label,
    ours,
    published,
)
from reluctant.reports.published import mismatches
from reluctant.reports.records import Record, group
from reluctant.reports.style import make_axes, style
from reluctant.theory.verdicts import (
    Counterexample,
    Evidence,
    EvidenceKind,
    MutantResult,
    Need,
    Outcome,
    Report,
    Sharpness,
    Unmet,
    Verdict,
)


@dataclass(frozen=True)
class Named:
    name: str
    text: str


@dataclass(frozen=True)
class Specimen:
    id: str
    title: str
    kind: str
    latex: str
    sources: tuple[str, ...]
    hypotheses: tuple[Named, ...]
    expected: Outcome
    mutants: tuple[Named, ...]


HARD = Named("hard-own-gates", "every gate is the network's own and is 0 or 1")
BIAS_FREE = Named("bias-free", "no source: neither biases nor shifts of a batch normalisation")
DENSE = Named("fully-connected", "every weighted operation is dense")
FIXED = Named("gates-independent", "no value weight reaches a gate, under the law of the weights")
ROUND = Named("circular", "padding is periodic, of dilation times (k − 1) in all, stride 1")
POOLED = Named("globally-pooled", "one global average pool follows the convolutions")
SKIPS = Named("identity-skips", "skips carry no weights and go around whole blocks")

_R, _N = Outcome.REFUTED, Outcome.NOT_IMPLIED


def _s(
    identifier: str,
    title: str,
    kind: str,
    latex: str,
    source: str,
    hypotheses: tuple[Named, ...],
    mutants: tuple[tuple[str, str], ...],
    expected: Outcome = Outcome.HOLDS,
) -> Specimen:
    named = tuple(Named(*m) for m in mutants)
    return Specimen(identifier, title, kind, latex, (source,), hypotheses, expected, named)


STATEMENTS = (
    _s("dual.inner-product", "Output is the inner product of feature and value", "E",
       r"f(x) = \langle \phi(x), v \rangle", "npf, proposition 2.1", (),
       (("flipped-gate", "one gate of one example flipped"), ("gelu", "a GELU read as a gate"))),
    _s("dual.path-count", "Number of paths", "E",
       r"|\mathcal{P}| = n_{\mathrm{in}}\, w^{d-1}", "dlgn, section 3", (BIAS_FREE,),
       (("zero-padding", "the formula of circular padding under zero padding"),)),
    _s("dual.npk-hadamard", "The path kernel is a Hadamard product", "E",
       r"H = \Sigma \odot \Lambda, \quad \Lambda(x, x') = \prod_{l=1}^{d-1} \langle G_l(x), G_l(x') \rangle",
       "npf, lemma 3.2", (DENSE, BIAS_FREE),
       (("skip-a-layer", "one layer left out of the product"), ("sum", "sum of layers for product"))),
    _s("dual.psd", "Kernel and overlap matrix are positive semi-definite", "B",
       r"\lambda_{\min}(\Sigma \odot \Lambda) \ge \lambda_{\min}(\Sigma)\, \min_s \Lambda(s, s)",
       "npf, section 3", (DENSE, HARD), (("soft-gates", "gates of one half and one"),)),
    _s("dual.homogeneous", "Positive homogeneity", "E",
       r"H(cx, x') = c\, H(x, x') \quad \text{for } c > 0", "npf, section 2", (HARD, BIAS_FREE),
       (("negative", "c below zero"), ("biases", "biases added"))),
    _s("ntk.path-decoupling", "Gradients of different paths are uncorrelated", "X",
       r"\mathbb{E}\,\langle \nabla v_p, \nabla v_q \rangle = d\,\sigma^{2(d-1)}\, \mathbf{1}\{p = q\}",
       "npf, lemma 5.1", (FIXED,), (("mean", "weights of mean one half"),)),
    _s("ntk.fc-expectation", "Expected tangent kernel of a fully connected network", "X",
       r"\mathbb{E}[K_v] = d\,\sigma^{2(d-1)} H", "npf, theorem 5.1", (DENSE, FIXED, BIAS_FREE),
       (("exponent", "σ to the 2d"), ("no-depth", "factor d left out"), ("tied", "two layers tied"))),
    _s("ntk.fc-limit", "The tangent kernel comes to its law", "L",
       r"\left\| K_v - d\,c^{2(d-1)} \frac{\Sigma \odot \Lambda}{w^{d-1}} \right\| = O(w^{-1/2})",
       "npf, theorem 5.1", (DENSE, FIXED, BIAS_FREE), (("order-one", "arc-cosine kernel of order 1"),)),
    _s("ntk.dependent-gates", "A ReLU network's own gates depend on its weights", "N",
       r"\text{own gates: } \mathbb{E}[K] = d\,\sigma^{2(d-1)} H \text{ is not implied}", "npf, section 5",
       (FIXED,), (("redraw", "independent redraw of the gates"),), _N),
    _s("ntk.soft-gates-printed", "Soft gates, as printed", "F",
       r"\mathbb{E}[K_v] = \sigma^{2(d-1)}\, \Sigma \odot \lambda \quad \text{(the factor } d \text{ is missing)}",
       "dgn, theorem 4.1", (DENSE, FIXED), (("with-depth", "the factor put back"),), _R),
    _s("ntk.signal-vs-wire", "Signal against wire, as printed", "F",
       "$K(s,s') = \\sum_i x_i(s)\\, x_i(s')\\, \\kappa(s,s',i)$ leaves out pairs of paths that start "
       "at different inputs and share a later weight.",
       "dgn, lemma 3.1", (DENSE,), (("one-input", "a single input coordinate"),), _R),
    _s("conv.npk-invariant", "The path kernel does not see rotations", "E",
       r"H(\operatorname{rot}(x, r), x') = H(x, x')", "dlgn, theorem 4.2", (ROUND, POOLED),
       (("zero-padding", "zeros in place of the other end"), ("flatten", "flatten for pooling"))),
    _s("conv.npk-rotation-sum", "The path kernel sums over rotations", "E",
       r"H(x,x') = \frac{1}{n_{\mathrm{in}}^2} \sum_{r} \sum_{i} x(i)\, \operatorname{rot}(x', r)(i)\, "
       r"\operatorname{overlap}(i, x, \operatorname{rot}(x', r))", "dlgn, lemma 4.1",
       (ROUND, POOLED, BIAS_FREE), (("no-rotation", "only r = 0"),)),
    _s("skip.npk-ensemble", "Skips make an ensemble of kernels", "E",
       r"H = \sum_{J \subseteq [b]} H_J", "dlgn, theorem 4.3", (SKIPS, BIAS_FREE),
       (("cross-terms", "terms of different J added"), ("left-out", "one sub-network left out"))),
    _s("dlgn.primal-linear", "Every gate of a DLGN is a half-space", "E",
       r"q_l(x) = W_l \cdots W_1\, x", "dlgn, section 3", (), (("relu", "ReLUs in the feature network"),)),
    _s("dlgn.permute-layers-conv", "Permuted convolutional gates change the kernel", "N",
       r"H_\pi = H \text{ is not implied for windows wider than one}", "dlgn, section 5", (),
       (("window-one", "windows of size one"),), _N),
)  # fmt: skip

SUBJECTS = ("FC", "FC with biases", "FC, soft gates", "Conv + GAP, circular", "Conv + GAP, zero padding",
            "Conv + flatten", "ResNet, 3 skips", "DGN, independent", "DGN, dependent",
            "DLGN(x, x)", "DLGN(x, 1)", "DLGN-SF")  # fmt: skip


def _verdict(statement: Specimen, row: int, subject: str, column: int) -> Verdict | None:
    pick = (7 * row + 3 * column) % 11
    if pick == 10:
        return None
    if statement.expected is Outcome.REFUTED and pick < 8:
        example = Counterexample(
            "left 2.0000, right 1.0000 at d = 2, w = 1, n_in = 1",
            {"weights": [[1], [1]], "x": [1.0], "left": 2.0, "right": 1.0},
            f"reluctant statements {statement.id} --example 1",
        )
        evidence = Evidence(EvidenceKind.EXACT, 40, 3, None, None, detail="both sides in integers")
        return Verdict(statement.id, subject, Outcome.REFUTED, Outcome.REFUTED,
                       "the printed constant lacks a factor", evidence,
                       counterexample=example, seconds=0.31)  # fmt: skip
    if pick in (2, 6) or statement.expected is Outcome.NOT_IMPLIED:
        unmet = Unmet(statement.hypotheses[0].name if statement.hypotheses else "dense",
                      "fc2 has a bias", "models/fully_connected.py:31")  # fmt: skip
        return Verdict(statement.id, subject, Outcome.NOT_IMPLIED, Outcome.NOT_IMPLIED,
                       "a hypothesis is not met", None, (unmet,), measured=0.031 * (pick + 1))  # fmt: skip
    if pick == 9 and column == 4:
        return Verdict(statement.id, subject, Outcome.INCONCLUSIVE, Outcome.HOLDS,
                       "27 of 40 examples vanish on both sides", None)  # fmt: skip
    kind = (
        EvidenceKind.STATISTICAL
        if statement.kind in "XL" and pick % 2
        else (EvidenceKind.SYMBOLIC, EvidenceKind.EXACT, EvidenceKind.EXACT, EvidenceKind.ROUNDING)[
            pick % 4
        ]
    )
    residual = 0.013 * (pick + 1) if kind is EvidenceKind.ROUNDING else None
    error = {EvidenceKind.STATISTICAL: 1e-7, EvidenceKind.EXACT: 2.0**-60}.get(kind)
    evidence = Evidence(
        kind, 200 + 25 * pick, pick, residual, error, detail="modulo two random primes"
    )
    return Verdict(statement.id, subject, Outcome.HOLDS, Outcome.HOLDS, "no counterexample",
                   evidence, seconds=0.2 + 0.05 * pick)  # fmt: skip


def make_report() -> Report:
    verdicts = [
        found
        for row, statement in enumerate(STATEMENTS)
        for column, subject in enumerate(SUBJECTS)
        if (found := _verdict(statement, row, subject, column)) is not None
    ]
    mutants = [
        MutantResult(s.id, m.name, True, 3 + 2 * i, "left 3, right 2") for s in STATEMENTS
        for i, m in enumerate(s.mutants)
    ]  # fmt: skip
    needs = [_sharpness(s.id, h.name, i) for s in STATEMENTS for i, h in enumerate(s.hypotheses)]
    return Report("the suite", tuple(verdicts), tuple(mutants), {"seed": "0"}, (), tuple(needs))


def _sharpness(statement: str, hypothesis: str, number: int) -> Sharpness:
    need = list(Need)[number % 4]
    example = Counterexample("kernel <b> & #x: 1 = 0 is false") if need is Need.NEEDED else None
    return Sharpness(statement, hypothesis, need, 7, example, "FC, biases & <more>")


def make_document(sections: tuple[Section, ...] = (), profile: str = "quick") -> Document:
    return Document(
        "The dual view of ReLU networks, tried", profile, make_report(), STATEMENTS, sections, mismatches(),
        {"python": "3.11.7", "torch": "2.13.0", "processor": "a processor", "cores": "2"},
        chains=make_chains(sections, lambda r: f"records/{r.experiment}/{r.name}.json"),
        command=f"reluctant report --profile {profile}",
    )  # fmt: skip


def make_sections() -> tuple[Section, ...]:
    """Return one section with a figure and two tables, and one that is a gap."""
    records = tuple(
        Record("trial", "quick", {"width": w, "seed": s}, {"error": 1 / w + s / 100}, "c" * 16)
        for w in (8, 16, 32)
        for s in range(3)
    )
    with style():
        canvas, axes = make_axes(height=1.6)
        for shift in range(3):
            axes.plot([8, 16, 32], [1.0 + shift, 0.5 + shift, 0.25 + shift], label=f"${shift}$")
        axes.set(xlabel="width $w$", ylabel="error", xscale="log")
        axes.legend()
    figure = Figure(
        "trial-decay", "Error against $w$.", "Three lines that fall from left to right.", canvas
    )
    table = Table(
        "trial-errors",
        "Mean error, for each $w$.",
        (
            Column("$w$"),
            Column("error", "ours"),
            Column("paper", "published"),
            Column("", "verdict"),
        ),
        (
            (label("only a heading"),),
            *(
                (
                    label(str(width)),
                    (mine := ours(runs, "error", 3)),
                    (theirs := published(0.05, "npf, main table", 0.01)),
                    judged(mine, theirs),
                )
                for (width,), runs in group(records, "width").items()
            ),
        ),
    )
    plain = Table(
        "trial-plain",
        "The same without a heading.",
        (Column("w"), Column("error", "ours")),
        tuple(
            (label(str(width)), ours(runs, "error", 3))
            for (width,), runs in group(records, "width").items()
        ),
        width="page",
    )
    return (
        Section("trial", "A trial of $w$", "What is tried.", ("dual.psd",), ("npf",),
                (figure, table, plain), Provenance(("quick",), 9), "quick", 12.0, ("a processor",),
                records),
        Section("gap", "Nothing yet", "Not run.", (), (), (),
                Provenance((), 0, ("record x.json cannot be read (cut off)",))),
    )  # fmt: skip
