"""One policy for many tasks, at toy size: the way from demonstrations to a file that takes goals."""

import json
from pathlib import Path

import pytest

from pipelines import benchmark, pretrain
from pipelines.cli import main
from pipelines.learning.suite import SuiteCourse, SuiteSettings
from pipelines.sweeps.several import numbered
from sim2real.errors import UserError
from sim2real.parameters import Draw

TASKS = ("lift_cube", "can_at_mark")


def settings(**changed: object) -> SuiteSettings:
    small = {"task": "table", "tasks": TASKS, "episodes": 8, "rounds": 2, "epochs": 2, "evaluate": 0}
    return SuiteSettings(**{**small, **changed})  # type: ignore[arg-type]


def test_episodes_go_where_the_policy_fails() -> None:
    course = SuiteCourse(settings(episodes=80))
    even = course.shares(40, [])
    assert set(even.values()) == {20}
    # The first round is the expert's own: it says nothing of the policy.
    assert course.shares(40, [{"per_task": {"table/lift_cube": [0, 10]}}]) == even
    rounds = [{}, {"per_task": {"table/lift_cube": [10, 10], "table/can_at_mark": [2, 10]}}]
    shares = course.shares(40, rounds)
    assert shares["table/can_at_mark"] > 2 * shares["table/lift_cube"]
    assert 38 <= sum(shares.values()) <= 42


def test_draws_say_whose_they_are_and_none_is_used_twice() -> None:
    course = SuiteCourse(settings(episodes=24))
    rounds = [course.round_draws(group, []) for group in range(2)]
    indices = [draw.index for draws in rounds for draw in draws]
    assert len(set(indices)) == len(indices)
    first = rounds[0][0].index % 2
    assert [draw.index % 2 for draw in rounds[0][:6]] == [first] * 3 + [1 - first] * 3
    # A round that ends early leaves out another task than the one before.
    assert rounds[1][0].index % 2 == 1 - first
    seeds = [draw.seed for draws in rounds for draw in draws if draw.index % 2 == 0]
    assert len(set(seeds)) == len(seeds)


def test_numbering() -> None:
    draws = {name: [Draw(k, k, {}) for k in range(3)] for name in "ab"}
    assert [d.index for d in numbered(draws)] == [0, 2, 4, 1, 3, 5]
    assert [d.index for d in numbered(draws, block=2)] == [0, 2, 1, 3, 4, 5]
    assert [d.index for d in numbered(draws, block=2, order=[1, 0])] == [1, 3, 0, 2, 5, 4]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"tasks": ("lift_cub",)}, "did you mean 'table/lift_cube'"),
        ({"split": "L9"}, "it has L1, L2, L3, seen"),
        ({"episodes": 4}, "at least two episodes each"),
        ({"expert": "zero"}, "leave --expert out"),
        ({"task": "tabel"}, "no suite"),
    ],
)
def test_what_cannot_be_trained_is_refused(changed: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        settings(**changed)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--suite", "table", "--task", "lift"], "give --task, or --suite"),
        ([], "give --task, or --suite"),
        (["--suite", "table", "--observe", "pixels"], "leave --observe out"),
        (["--task", "lift", "--split", "L1"], "add --suite"),
    ],
)
def test_flags_that_do_not_fit_together(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain", *words, "--out", str(tmp_path / "p")]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


@pytest.mark.slow
def test_a_policy_for_two_tasks(tmp_path: Path) -> None:
    trained = pretrain(
        suite="table", tasks=TASKS, episodes=8, rounds=2, epochs=2, batches=4, batch_size=64, width=32, depth=1,
        evaluate=2, out=tmp_path / "p", workers=0,
    )  # fmt: skip
    measured = trained.metrics["evaluation"]
    assert set(measured["per_task"]) == {f"table/{name}" for name in TASKS}
    config = json.loads((tmp_path / "p" / "config.json").read_text())
    assert set(config["identity"]["suite"]) == {f"table/{name}" for name in TASKS}
    found = benchmark(
        str(trained.policy), ["table/lift_cube", "table/ball_in_bowl"], trials=2, out=tmp_path / "b", workers=0,
        progress=False,
    )  # fmt: skip
    assert found.tasks == 2
    with pytest.raises(UserError, match="is not data"):
        benchmark(str(trained.policy), "lift", trials=2, out=tmp_path / "c", workers=0, progress=False)
