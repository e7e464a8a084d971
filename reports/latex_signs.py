"""The signs and commands of LaTeX that this project writes, by kind."""

from __future__ import annotations

from typing import Final

GREEK: Final = dict(
    zip(
        "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu "
        "xi pi rho sigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma "
        "Upsilon Phi Psi Omega ell partial nabla infty hbar emptyset varnothing top bot aleph "
        "dots ldots cdots vdots prime Re Im".split(),
        "αβγδϵεζηθϑικλμνξπρστυϕφχψωΓΔΘΛΞΠΣΥΦΨΩℓ∂∇∞ℏ∅∅⊤⊥ℵ……⋯⋮′ℜℑ",
        strict=True,
    )
)
OPERATORS: Final = dict(
    zip(
        "le leq ge geq ne neq equiv approx sim simeq propto in notin ni subset subseteq supset "
        "supseteq cup cap setminus times cdot odot otimes oplus circ star ast pm mp div to "
        "rightarrow leftarrow mapsto Rightarrow Leftarrow Leftrightarrow implies iff forall exists "
        "neg land lor wedge vee mid parallel perp ll gg succeq preceq succ prec mathbin cong asymp "
        "longrightarrow leftrightarrow hookrightarrow doteq triangleq coloneqq bullet "
        "colon".split(),
        "≤≤≥≥≠≠≡≈∼≃∝∈∉∋⊂⊆⊃⊇∪∩∖×⋅⊙⊗⊕∘⋆∗±∓÷→→←↦⇒⇐⇔⟹⟺∀∃¬∧∨∧∨∣∥⟂≪≫⪰⪯≻≺\0≅≍⟶↔↪≐≜≔∙:",
        strict=True,
    )
)
del OPERATORS["mathbin"]
LARGE: Final = dict(
    zip(
        "sum prod int bigcup bigcap bigoplus bigotimes bigodot coprod bigwedge bigvee".split(),
        "∑∏∫⋃⋂⨁⨂⨀∐⋀⋁",
        strict=True,
    )
)
FUNCTIONS: Final = frozenset(
    "max min sup inf lim log ln exp det dim ker arg sin cos tan arccos arcsin tanh Pr gcd "
    "limsup liminf deg".split()
)
# Functions below which a subscript stands in a displayed formula.
LIMITS: Final = frozenset("max min sup inf lim limsup liminf det gcd Pr argmax argmin".split())
DELIMITERS: Final = {
    "langle": "⟨", "rangle": "⟩", "lvert": "|", "rvert": "|", "vert": "|", "lVert": "‖",
    "rVert": "‖", "Vert": "‖", "|": "‖", "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈",
    "rceil": "⌉", "{": "{", "}": "}", "lbrace": "{", "rbrace": "}", "lbrack": "[", "rbrack": "]",
}  # fmt: skip
OPENING: Final = frozenset("([{⟨⌊⌈")
CLOSING: Final = frozenset(")]}⟩⌋⌉")
SPACES: Final = {
    ",": 3 / 18, ":": 4 / 18, ">": 4 / 18, ";": 5 / 18, " ": 6 / 18, "!": -3 / 18, "quad": 1.0,
    "qquad": 2.0, "enspace": 0.5, "~": 6 / 18,
}  # fmt: skip
ACCENTS: Final = {
    "hat": "hat", "widehat": "hat", "tilde": "tilde", "widetilde": "tilde", "bar": "bar",
    "overline": "line", "vec": "vec", "dot": "dot", "ddot": "ddot", "underline": "underline",
}  # fmt: skip
ALPHABETS: Final = {
    "mathbb": "bb", "mathcal": "cal", "mathscr": "cal", "mathbf": "bold", "boldsymbol": "bold",
    "bm": "bold", "mathrm": "upright", "mathsf": "sans", "mathit": "italic", "mathfrak": "frak",
}  # fmt: skip
WORDS: Final = frozenset("text textrm mbox textnormal".split())
GRIDS: Final = frozenset("matrix pmatrix bmatrix vmatrix cases aligned".split())
SCRIPTS: Final = frozenset("in out min max cv fc blk pre post eff cl tr ReLU SF VT".split())
IGNORED: Final = frozenset(
    "displaystyle textstyle limits nolimits big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr "
    "middle".split()
)
RAISED: Final = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789", strict=True))
BARS: Final = frozenset("|‖")
SIGNS: Final = {"-": "−", "*": "∗", "=": "=", "+": "+", "<": "<", ">": ">", "/": "/", ":": ":"}
