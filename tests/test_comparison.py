"""Which differences between rows hold: the tests against enumeration, the correction and the marks by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report import comparison
from report.table import short_table, table_section


@given(st.lists(st.integers(-3, 3), max_size=9))
def test_all_signs_of_the_differences_are_counted(differences):
    sums = [
        abs(sum(sign * one for sign, one in zip(signs, differences)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    expected = sum(one >= abs(sum(differences)) for one in sums) / len(sums)
    assert comparison.sign_flip_p(differences) == pytest.approx(expected)


def test_with_one_seed_it_is_mcnemars_exact_test():
    """Ten questions on which two models differ, one of them the other way: 2 (1 + 10) / 2^10."""
    assert comparison.sign_flip_p([1] * 9 + [-1] + [0] * 20) == pytest.approx(22 / 1024)


def test_holms_correction_by_hand():
    corrected = comparison.holm({"a": 0.04, "b": 0.01, "c": 0.03, "d": 0.5})
    assert corrected == pytest.approx({"b": 0.04, "c": 0.09, "a": 0.09, "d": 0.5})
    assert [*corrected] == ["a", "b", "c", "d"], "in the order of the table"
    assert comparison.holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}


def judged(side, verdicts, leak=False):
    """An item a question."""
    name = {"forget": "forgotten", "retain": "retained"}[side]
    return [
        {"side": side, "question": str(at), "reference": "", name: bool(verdict), "leak": leak}
        for at, verdict in enumerate(verdicts)
    ]


def test_outcomes_are_sums_over_seeds_and_samples():
    runs = [judged("forget", (1, 0)) + judged("forget", (1, 1)), judged("forget", (0, 0), leak=True)]
    found = comparison.outcomes(runs)
    assert found["KFR"] == {("0", ""): (2, 3), ("1", ""): (1, 3)} and "KRR" not in found
    assert comparison.outcomes([judged("forget", (1,), leak=True)])["KFR_strict"] == {("0", ""): (0, 1)}


def test_random_swaps_come_near_all_swaps():
    one, other = (
        comparison.outcomes([judged("forget", forget) + judged("retain", retain)])
        for forget, retain in (((1, 1, 1, 1, 0), (1, 1, 0, 1)), ((0, 1, 0, 0, 0), (1, 0, 0, 1)))
    )
    rates = [[[total for total, _ in model[name].values()] for name in ("KFR", "KRR")] for model in (one, other)]

    def difference(swaps):
        mine, theirs = ([list(part) for part in model] for model in rates)
        for part, at in itertools.compress([(0, at) for at in range(5)] + [(1, at) for at in range(4)], swaps):
            mine[part][at], theirs[part][at] = theirs[part][at], mine[part][at]
        means = [[sum(part) / len(part) for part in model] for model in (mine, theirs)]
        harmonic = [2 * kfr * krr / (kfr + krr) if kfr + krr else 0 for kfr, krr in means]
        return abs(harmonic[0] - harmonic[1])

    observed = difference((0,) * 9)
    exact = sum(difference(swaps) >= observed - 1e-9 for swaps in itertools.product((0, 1), repeat=9)) / 2**9
    assert comparison.swap_p(one, other, np.random.default_rng(1)) == pytest.approx(exact, abs=0.02)
    assert comparison.swap_p(one, one, np.random.default_rng(1)) == 1


def test_swaps_are_enough_for_holms_correction_over_all_pairs(monkeypatch):
    """The more rows the smaller a p-value must be, and 1 / (1 + draws) is the smallest."""
    monkeypatch.setattr(comparison, "DRAWS", 20)
    verdicts = {"A": [1] * 30, **dict.fromkeys("BCDEF", [0] * 30)}
    models = {
        name: comparison.outcomes([judged("forget", row) + judged("retain", row)]) for name, row in verdicts.items()
    }
    found = comparison.compare(models)["HM"]
    assert max(p for pair, p in found.items() if "A" in pair) < comparison.LEVEL
    assert comparison.draws(1225) > 1225 / comparison.LEVEL


def test_pairs_are_compared_on_the_same_questions_alone_and_seeds_as_shares():
    models = {
        "A": comparison.outcomes([judged("forget", [1] * 12)]),
        "B": comparison.outcomes([judged("forget", [0] * 12), judged("forget", [0] * 12)]),
        "C": comparison.outcomes([judged("forget", [1] * 10)]),
        "E": comparison.outcomes([judged("forget", [0] * 11)]),
        "D": comparison.outcomes([judged("retain", [1] * 12)]),
    }
    found = comparison.compare(models)
    wanted = {("A", "B"): 2 / 2**12, ("A", "E"): 2 / 2**11, ("B", "E"): 1, ("C", "E"): 2 / 2**10}
    corrected = comparison.holm(wanted)
    assert found["KFR"] == pytest.approx(corrected) and set(found) == {"KFR", "KFR_strict"}, "E lacks one question of A"


def test_what_no_test_tells_apart_for_want_of_questions_is_not_called_worse():
    rows = [{"model": name, "KFR": kfr} for name, kfr in (("A", 1.0), ("B", 1.0), ("C", 0.5))]
    assert comparison.best(rows, "KFR", {("A", "C"): 0.01, ("B", "C"): 0.01}) == {"A", "B"}


def test_what_was_never_tested_is_best_only_if_it_is_the_highest():
    """B was asked other questions than A and C."""
    rows = lambda *values: [{"model": name, "KFR": kfr} for name, kfr in zip("ABC", values)]
    assert comparison.best(rows(0.9, 0.1, 0.8), "KFR", {("A", "C"): 0.4}) == {"A", "C"}
    assert comparison.best(rows(0.9, 1.0, 0.8), "KFR", {("A", "C"): 0.4}) == {"B"}
    assert comparison.best(rows(0.9, 0.9, 0.8), "KFR", {("A", "C"): 0.4}) == {"A", "B", "C"}


P_VALUES = {("vanilla", "A"): 0.001, ("vanilla", "B"): 0.001, ("A", "B"): 0.4, ("A", "C"): 0.01, ("B", "C"): 0.2}
ROWS = [{"model": name, "KFR": kfr} for name, kfr in (("vanilla", 0.99), ("A", 0.9), ("B", 0.8), ("C", 0.5))]


def test_the_best_are_those_that_no_test_tells_from_the_highest():
    assert comparison.best(ROWS, "KFR", P_VALUES) == {"A", "B"}, "vanilla is not unlearned"
    assert comparison.best(ROWS, "KFR", dict.fromkeys(P_VALUES, 0.9)) == {"A", "B", "C"}, "all alike"
    assert comparison.best(ROWS[:2], "KFR", P_VALUES) == set(), "one alone is not best of anything"
    assert comparison.alike(P_VALUES, "B") == ["A", "C"]


def test_the_table_marks_them_in_letters_and_in_words():
    short = short_table(ROWS, {"KFR": P_VALUES})
    assert "| A | **0.90** |" in short and "| B | **0.80** |" in short and "| C | 0.50 |" in short
    web = "".join(part[0] for part in table_section(ROWS, {"KFR": P_VALUES}))
    assert web.count('class="best"') == 2 and "alike in KFR" in web
