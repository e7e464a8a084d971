r"""Whether strict linear inequalities have a solution, with no rounding: a point, or a certificate.

Exactly one of two things exists for functions :math:`\langle a_i, x \rangle + b_i` (Motzkin's theorem of
the alternative): a point at which all are positive, or multipliers :math:`\lambda \ge 0`, not all 0, with

.. math:: \sum_i \lambda_i a_i = 0, \qquad \sum_i \lambda_i b_i \le 0.

Both come out of one linear programme, min Σ λ_i b_i + c μ over λ, μ ≥ 0 with Σ λ_i a_i = 0 and
Σ λ_i + μ = 1, whose dual is: max t ≤ c with ⟨a_i, x⟩ + b_i ≥ t. Rows are multiplied by powers of two to
about one length c, so that the point is well inside. It is solved by the simplex method with
Bland's rule, which ends, on integers: a tableau's entries are minors of the data over one of them, so
that pivots divide without remainder.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from reluctant.theory.affine_forms import Row

Multipliers = tuple[Fraction, ...]


def interior(rows: Sequence[Row]) -> tuple[Fraction, ...] | None:
    """Return a point at which all affine functions are positive, None if there is none.

    Args:
        rows: Functions, each as integers a₁, …, a_n, b; at least one.

    Cost:
        A few n pivots of n + 1 rows and m + n + 2 columns, on integers of the size of minors.
    """
    tableau = _Tableau(rows)
    tableau.solve()
    return tableau.point() if tableau.optimum > 0 else None


def certificate(rows: Sequence[Row]) -> Multipliers | None:
    """Return multipliers that show that no point makes all functions positive, None if one does.

    Args:
        rows: Functions, each as integers a₁, …, a_n, b; at least one.
    """
    tableau = _Tableau(rows)
    tableau.solve()
    return tableau.multipliers() if tableau.optimum <= 0 else None


class _Tableau:
    """Be a simplex tableau of integers over one positive denominator.

    Columns are λ, then μ, then one unit column for each of the n equations Σ λ a = 0, then the right
    side; the last line has the reduced costs, and minus the optimum.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.count, self.size = len(rows), len(rows[0]) - 1
        lengths = [max(map(abs, row[:-1] if any(row[:-1]) else row)).bit_length() for row in rows]
        self.shifts = [max(lengths) - length for length in lengths]
        rows = [tuple(a << k for a in row) for row, k in zip(rows, self.shifts, strict=True)]
        cap = 1 << max(lengths)
        self.units = range(self.count + 1, self.count + 1 + self.size)
        self.lines = [
            [*(row[k] for row in rows), 0, *(int(j == k) for j in range(self.size)), 0]
            for k in range(self.size)
        ]
        self.lines.append([1] * (self.count + 1) + [0] * self.size + [1])
        # μ begins in the basis, at 1 and with its cost
        self.lines.append([row[-1] - cap for row in rows] + [0] * (self.size + 1) + [-cap])
        self.basis = [*self.units, self.count]
        self.denominator = 1

    def solve(self) -> None:
        """Bring the tableau to its optimum."""
        for line in range(self.size):  # the unit columns leave, at 0
            column = next((j for j in range(self.count) if self.lines[line][j]), None)
            if column is not None:
                self._pivot(line, column)
        while True:
            costs = self.lines[-1]
            column = next((j for j in range(self.count + 1) if costs[j] < 0), None)
            if column is None:
                return
            ratios = [
                (Fraction(line[-1], line[column]), self.basis[k], k)
                for k, line in enumerate(self.lines[:-1])
                if line[column] > 0
            ]
            self._pivot(min(ratios)[2], column)

    def _pivot(self, line: int, column: int) -> None:
        pivot = self.lines[line]
        if pivot[column] < 0:  # only where the right side is 0
            pivot = self.lines[line] = [-a for a in pivot]
        new, old = pivot[column], self.denominator
        for k, other in enumerate(self.lines):
            if k != line:
                factor = other[column]
                self.lines[k] = [
                    (a * new - factor * b) // old for a, b in zip(other, pivot, strict=True)
                ]
        self.basis[line], self.denominator = column, new

    @property
    def optimum(self) -> Fraction:
        """Return the largest t, at most c."""
        return Fraction(-self.lines[-1][-1], self.denominator)

    def point(self) -> tuple[Fraction, ...]:
        """Return x of the dual."""
        return tuple(Fraction(self.lines[-1][j], self.denominator) for j in self.units)

    def multipliers(self) -> Multipliers:
        """Return λ, of the rows as they came."""
        found = [Fraction(0)] * (self.count + 1 + self.size)
        for k, column in enumerate(self.basis):
            found[column] = Fraction(self.lines[k][-1], self.denominator)
        return tuple(m * (1 << k) for m, k in zip(found, self.shifts, strict=False))
