"""One reading of a formula, two ways to print it, and a loud refusal of the rest."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
import typst
from hypothesis import given, settings
from hypothesis import strategies as st
from report_specimens import STATEMENTS

from reluctant.reports.formulas import parse
from reluctant.reports.mathml import clauses_as_mathml, to_mathml
from reluctant.reports.prose import for_html, for_typst, is_prose, pieces, without_markup
from reluctant.reports.typst_math import clauses_for_typst, to_typst
from reluctant.theory.errors import InputError

FORMULAS = [
    r"f(x) = \langle \phi(x), v \rangle",
    r"\Lambda = \prod_{l=1}^{d-1} \langle G_l, G_l' \rangle",
    r"\left\| \frac{a}{b} \right\|_2^{2} \le |J| + \|x\|_\infty",
    r"\begin{cases} 1 & q > 0 \\ 0 & \text{otherwise} \end{cases}",
    r"\begin{pmatrix} 2 & 1 \\ 1 & 2 \end{pmatrix}",
    r"\sqrt[3]{2/w}, \hat{H}_t^{-1}, \mathbb{E}, \mathcal{P}, \mathbf{1}\{q>0\}, \overline{ab}",
    r"\operatorname{rot}(x', r), \binom{m}{i}, \max_s \Lambda(s,s), x_{i'}^{(l)}, f''",
    "E[f f'] = Σ_l (∂H/∂z_l)(σ²), Σ⊙Λ ≥ 0, x ∈ ℝ",
    r"a,b;c.d!e:f \% \# \_ \& \quad \; \, \! \{ \} \lfloor x \rfloor",
]


@pytest.mark.parametrize("latex", FORMULAS)
def test_both_forms_are_well_formed(latex: str) -> None:
    ET.fromstring(to_mathml(latex))
    ET.fromstring(to_mathml(latex, is_block=True))
    typst.compile(f"$ {to_typst(latex)} $".encode(), format="svg")


@pytest.mark.parametrize(
    ("latex", "printed"),
    [
        ("x^{2}", "attach(x, t: 2)"),
        (r"\frac{a}{b}", "frac(a, b)"),
        ("f(a, b)", r"f \( a \, b \)"),
        ("n_{in}", 'attach(n, b: "in")'),
        (r"\|x\|", 'class("opening", ‖) x class("closing", ‖)'),
        (r"\left( x \right.", r"lr(\( x )"),
        (r"\max_s", 'attach(op("max", limits: #true), b: s)'),
        (r"\Sigma", "upright(Σ)"),
        ("/", r"\/"),
        (r"\text{a \"quoted\"}".replace('\\"', '"'), '"a \\"quoted\\""'),
    ],
)
def test_typst_is_escaped_and_grouped(latex: str, printed: str) -> None:
    assert to_typst(latex) == printed


@pytest.mark.parametrize(
    ("latex", "match"),
    [
        (r"\foo x", r"'\\\\foo' is not known \(column 1\)"),
        (r"x + \href{a}", r"is not known \(column 5\)"),
        ("{x", "'}' is expected"),
        ("x}", "closes nothing"),
        ("x^a^b", "second superscript"),
        ("x_a_b", "second subscript"),
        ("x^10", "put braces"),
        (r"\left( x", "is expected"),
        (r"\left? x \right)", "is not known"),
        (r"\begin{tabular} x \end{tabular}", "environment 'tabular'"),
        (r"\begin{cases} x \end{matrix}", "another name"),
        ("|x", "does not close"),
        (r"\text{a $b$}", "text with markup"),
        (r"\text{a", "does not close"),
        ("x \x07", "is not known"),
        ("^", "more"),
    ],
)
def test_what_is_not_known_is_refused_with_its_place(latex: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        to_typst(latex)


@settings(deadline=None)
@given(st.text(alphabet=r"\{}[]()^_&$%#~'|/<>ab1 ,;", max_size=24))
def test_noise_is_set_or_refused_but_never_breaks_out(latex: str) -> None:
    try:
        parse(latex)
    except InputError:
        return
    ET.fromstring(to_mathml(latex))
    typst.compile(f"$ {to_typst(latex)} $".encode(), format="svg")


def test_a_formula_breaks_at_its_wide_spaces_only() -> None:
    assert clauses_for_typst(r"a = b, \quad c \, d \qquad e") == [
        r"a \= b \,", "c #h(0.1667em) d", "e",
    ]  # fmt: skip
    assert clauses_for_typst(r"\frac{a \quad b}{c}") == [to_typst(r"\frac{a \quad b}{c}")]
    assert len(clauses_as_mathml(r"a \quad b")) == 2
    assert 'alttext="x"' in clauses_as_mathml("x")[0]


def test_prose_is_split_at_dollars() -> None:
    found = pieces(r"At \$5, $x_1$ and $y$.")
    assert [(p.text, p.is_formula) for p in found] == [
        ("At $5, ", False), ("x_1", True), (" and ", False), ("y", True), (".", False),
    ]  # fmt: skip
    assert is_prose("a $x$")
    assert not is_prose("x^2")
    assert without_markup("a $x^2$ b") == "a x^2 b"
    with pytest.raises(InputError, match="does not end"):
        pieces("a $x")


def test_words_are_never_markup() -> None:
    assert for_html("a <b> & $x$").startswith("a &lt;b&gt; &amp; <math")
    assert for_typst("#panic() *a*") == [{"text": "#panic() *a*"}]


def test_statements_of_the_specimens_can_be_set() -> None:
    for statement in STATEMENTS:
        latex = statement.latex if is_prose(statement.latex) else f"${statement.latex}$"
        assert for_typst(latex)
        assert for_html(latex)


def test_letters_of_other_alphabets_are_the_unicode_ones() -> None:
    assert "𝔼" in to_mathml(r"\mathbb{E}")
    assert "ℝ" in to_mathml(r"\mathbb{R}")
    assert "𝒫" in to_mathml(r"\mathcal{P}")
    assert "𝐖" in to_mathml(r"\mathbf{W}")


@pytest.mark.parametrize("name", ["max", "det", "gcd", "Pr"])
def test_both_forms_put_limits_below_the_same_functions(name: str) -> None:
    assert "<munder>" in to_mathml(rf"\{name}_i", is_block=True)
    assert "limits: #true" in to_typst(rf"\{name}_i")
