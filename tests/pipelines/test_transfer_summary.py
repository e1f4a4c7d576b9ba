"""What rates and pairs mean: closed forms and published figures."""

import pytest

from pipelines.transfers.summary import cell, gap_closed, paired, ranking, summarized
from sim2real.statistics import newcombe_interval, pearson, rank_violation


def _rows(outcomes: str, behind: str = "") -> list[dict]:
    return [
        {"index": i, "success": letter == "s", "stage": "lifted" if letter == "s" else "above", "seconds": 4.0,
         "fault": "", "behind": 0.5 if behind[i : i + 1] == "x" else 0.0}
        for i, letter in enumerate(outcomes)
    ]  # fmt: skip


def test_newcombe_has_the_published_interval() -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998) 2635–2650, table II: a b c d = 36 12 2 0, method 10.
    assert newcombe_interval(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_newcombe_is_antisymmetric_and_bounded() -> None:
    low, high = newcombe_interval(20, 9, 3, 18)
    assert newcombe_interval(20, 3, 9, 18) == pytest.approx((-high, -low))
    assert newcombe_interval(0, 0, 0, 0) == (-1.0, 1.0)
    assert newcombe_interval(0, 10, 0, 0)[1] <= 1.0
    with pytest.raises(ValueError, match="negative"):
        newcombe_interval(1, -1, 0, 0)


def test_rank_violation_is_how_far_a_policy_is_misplaced() -> None:
    assert rank_violation([0.1, 0.5, 0.9], [0.2, 0.3, 0.8]) == 0.0
    # The last two are exchanged: each is 0.5 on the wrong side of the other.
    assert rank_violation([0.1, 0.9, 0.5], [0.2, 0.3, 0.8]) == pytest.approx(1 / 3)
    assert rank_violation([0.5], [0.5]) is None
    assert pearson([1, 2, 3], [2, 4, 6]) == pytest.approx(1.0)
    assert pearson([1, 2, 3], [5, 5, 5]) is None


def test_episodes_of_a_late_reality_do_not_count() -> None:
    found = cell(_rows("ssff", "x"))
    assert (found["episodes"], found["successes"], found["not_counted"]) == (3, 1, 1)


def test_pairs_are_the_episodes_that_both_had() -> None:
    cells = {("r", "default"): _rows("sfff"), ("r", "finetuned"): _rows("sssfs")}
    found = paired(cells, "default", "finetuned", ["r"])
    assert found is not None and found["pairs"] == 4
    assert (
        found["difference"] == pytest.approx(0.5) and found["only_after"] == 2 and found["mcnemar_p"] == 0.5
    )
    assert paired(cells, "default", "oracle", ["r"]) is None


def test_the_gap_is_what_the_oracle_is_better_by() -> None:
    cells = {
        ("r", "default"): _rows("ssffffffff"),
        ("r", "finetuned"): _rows("ssssffffff"),
        ("r", "oracle"): _rows("ssssssffff"),
    }
    found = gap_closed(cells, ["r"])
    assert found is not None and found["value"] == pytest.approx(0.5)
    cells["r", "oracle"] = _rows("ssffffffff")
    none = gap_closed(cells, ["r"])
    assert none is not None and none["value"] is None and none["bootstrap_95"] is None


def test_means_count_each_reality_once() -> None:
    cells = {("a", "default"): _rows("ss"), ("b", "default"): _rows("ffff")}
    found = summarized(cells, ["a", "b"], ["default"], {"default": 0.9}, 0)
    assert found["methods"]["default"]["mean_over_realities"] == pytest.approx(0.5)
    assert found["methods"]["default"]["successes"] == 2 and "necessary, not sufficient" in found["caveat"]


def test_ranking_is_over_policies_and_over_pairs() -> None:
    cells = {
        ("a", m): _rows("s" * k + "f" * (10 - k)) for m, k in (("none", 2), ("narrow", 5), ("default", 9))
    }
    found = ranking({"none": 0.3, "narrow": 0.5, "default": 0.95}, cells, ["a"])
    assert found["policies"]["count"] == 3 and found["policies"]["rank_violation"] == 0.0
    assert found["policies"]["pearson"] > 0.98 and len(found["points"]) == 3
