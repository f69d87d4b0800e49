"""When the counts agree, and when they do not."""

from dataclasses import replace

import pytest

from budgetware.demo.comparison import Comparison

CLEAN = Comparison(settled=500, reported=500, cut_calls=0, cut=0, spent=500, server=500)
CUT = Comparison(settled=500, reported=500, cut_calls=2, cut=300, spent=800, server=640)


@pytest.mark.parametrize("comparison", [CLEAN, CUT, replace(CLEAN, server=None)])
def test_counts_that_agree(comparison: Comparison) -> None:
    assert comparison.equal


@pytest.mark.parametrize(
    "comparison",
    [
        replace(CLEAN, server=501),
        replace(CLEAN, server=499),
        replace(CLEAN, reported=501),
        replace(CLEAN, spent=499),
        replace(CUT, server=499),
        replace(CUT, server=801),
        replace(CUT, reported=640),
    ],
)
def test_counts_that_differ(comparison: Comparison) -> None:
    assert not comparison.equal


@pytest.mark.parametrize(
    ("comparison", "verdict"),
    [
        (CLEAN, "equal"),
        (replace(CLEAN, server=None), "equal"),
        (replace(CLEAN, server=501), "NOT EQUAL"),
    ],
)
def test_verdict_in_a_word(comparison: Comparison, verdict: str) -> None:
    assert comparison.verdict == verdict


def test_verdict_on_cut_calls_says_what_is_known() -> None:
    assert CUT.verdict.startswith("equal; what was cut is charged in full")


def test_work_for_cut_calls_is_told_apart() -> None:
    assert CUT.server_cut == 140
    assert "140 for the calls that were cut" in CUT.lines()[-1]
