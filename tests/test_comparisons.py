"""Two sides and a bound: when they hold, how far they are apart, and when nothing was tried."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from reluctant.theory.modular import Identity
from reluctant.theory.statements import Comparison
from reluctant.theory.verdicts import EvidenceKind, write_whole


def compared(left: list[float], right: list[float], bound: float = 0.0, **given: Any) -> Comparison:
    one, other = (torch.tensor(side, dtype=torch.float64) for side in (left, right))
    return Comparison(one, other, bound, EvidenceKind.ROUNDING, **given)


def test_equal_sides_hold_within_the_bound_and_not_beyond() -> None:
    assert compared([1.0, 2.0], [1.5, 2.0], 0.5).holds
    assert not compared([1.0, 2.0], [1.5, 2.0], 0.25).holds
    assert compared([1.0, 9.0], [3.0, 4.0], 5.0).excess.tolist() == [2.0, 5.0]


def test_an_inequality_is_exceeded_in_one_direction_only() -> None:
    assert compared([1.0, 2.0], [4.0, 2.0], relation="at most").holds
    assert compared([4.0, 2.0], [1.0, 2.0], relation="at most").excess.tolist() == [3.0, 0.0]


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_numbers_that_are_not_finite_do_not_hold(broken: float) -> None:
    assert not compared([broken], [1.0], 1e300).holds


def test_the_residual_is_in_units_of_the_bound() -> None:
    assert compared([1.0, 2.0], [1.5, 2.0], 0.25).residual == 2.0
    assert compared([1.0], [1.0], 0.0).residual == 0.0
    assert compared([1.0], [2.0], 0.0).residual == math.inf
    assert compared([], []).residual == 0.0


def test_what_is_measured_is_relative_to_the_larger_side() -> None:
    assert compared([1.0, -8.0], [1.0, -4.0]).measured == 0.5
    assert compared([1.0, -4.0], [1.0, -8.0]).measured == 0.5
    assert compared([0.0], [0.0]).measured == 0.0
    assert compared([], []).measured == 0.0


def test_vanishing_sides_try_nothing_unless_said_otherwise() -> None:
    assert compared([0.0, 0.0], [0.0, 0.0]).is_vacuous
    assert not compared([0.0, 1.0], [0.0, 0.0]).is_vacuous
    assert not compared([0.0, 0.0], [0.0, 1.0]).is_vacuous
    assert not compared([0.0], [0.0], alive=True).is_vacuous
    assert compared([1.0], [1.0], alive=False).is_vacuous


def test_identities_vanish_on_both_sides_or_try_something() -> None:
    def identity(left: list[float], right: list[float]) -> Identity:
        return Identity(torch.tensor(left), torch.tensor(right), 1, 1.0, "f")

    assert identity([0.0, 0.0], [0.0, 0.0]).is_vacuous
    assert not identity([0.0, 1.0], [0.0, 0.0]).is_vacuous
    assert not identity([0.0, 0.0], [0.0, 1.0]).is_vacuous
    assert identity([0.0, 2.0], [0.0, 2.0]).holds
    assert not identity([0.0, 2.0], [0.0, 1.0]).holds
    assert identity([0.0, 2.0], [0.0, 1.0]).differing == 0.5
    assert identity([], []).differing == 0.0


def test_a_bound_of_half_the_gap_to_the_rival_is_blind() -> None:
    rival = torch.tensor([3.0, 1.0], dtype=torch.float64)
    assert compared([1.0, 1.0], [1.0, 1.0], 1.0, rival=rival).is_blind
    assert not compared([1.0, 1.0], [1.0, 1.0], 0.5, rival=rival).is_blind
    assert not compared([1.0, 1.0], [1.0, 1.0], 1.0).is_blind


def test_the_draws_that_would_tell_the_rival_are_named() -> None:
    rival = torch.tensor([3.0, 1.0], dtype=torch.float64)
    assert compared([1.0, 1.0], [1.0, 1.0], 3.0, rival=rival).needed_draws == 9.0
    assert compared([1.0, 1.0], [1.0, 1.0], 3.0, rival=torch.ones(2)).needed_draws == math.inf
    assert compared([1.0, 1.0], [1.0, 1.0], 3.0).needed_draws == 0.0


def test_a_written_file_can_be_read_by_all_and_its_folder_holds_nothing_else(
    tmp_path: Path,
) -> None:
    path = write_whole(tmp_path / "verdicts.json", "{}")
    assert path.read_text(encoding="utf-8") == "{}"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [*tmp_path.iterdir()] == [path]
