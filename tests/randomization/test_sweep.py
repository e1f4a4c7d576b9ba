"""Sweeps: worker independence, resuming, enlarging, refusals, and workers that die, hang or raise."""

import json
import multiprocessing.spawn
import os
import signal
import subprocess
import sys
import time
from multiprocessing import resource_tracker
from pathlib import Path

import pytest

from randomization import workers
from randomization.space import Space
from randomization.sweep import (
    SweepStore,
    draws_to_halve,
    row_to_draw,
    run_sweep,
    summarize,
)
from randomization.workers import POLICY_FAULT, run_local
from sim2real.errors import PolicyError, Sim2RealError, UserError
from sim2real.parameters import Draw, Parameter
from sim2real.statistics import wilson_interval
from tests.randomization import rollouts
from tests.randomization.rollouts import Ball

PARAMETERS = {p.name: p for p in (Parameter("x", 0.5, "m", 0.0, 1.0), Parameter("y", 0.5, "", 0.0, 1.0))}
BOUND = Space().bind(PARAMETERS)
BALL = Ball()
IDENTITY = {"task": "ball", "seed": 0}


def sweep(directory: Path, count: int, factory=BALL, workers: int = 0, identity=IDENTITY, **options):
    draws = BOUND.draws(count, seed=0)
    return run_sweep(factory, draws, directory, identity=identity, workers=workers, progress=False, **options)


def comparable(table):
    return table.drop_columns(["wall_seconds"]).to_pylist()


def test_rows_hold_draw_and_outcome(tmp_path):
    table = sweep(tmp_path, 20)
    draws = BOUND.draws(20, seed=0)
    for row, draw in zip(table.to_pylist(), draws):
        assert row_to_draw(row, ["x", "y"]) == draw
        expected = Ball.row(draw)
        assert row["success"] == expected["success"] and row["seconds"] == expected["seconds"]
        assert row["failure"] == ("" if row["success"] else "too low")
    summary = summarize(table)
    assert summary["draws"] == 20
    assert summary["successes"] == sum(Ball.row(d)["success"] for d in draws)
    assert summary["wilson_95"] == list(wilson_interval(summary["successes"], 20))
    assert summary["failures"] == {"too low": 20 - summary["successes"]}
    assert not (tmp_path / "parts").exists()


def test_results_do_not_depend_on_the_number_of_workers(tmp_path):
    tables = [comparable(sweep(tmp_path / str(w), 40, workers=w)) for w in (0, 1, 3)]
    assert tables[0] == tables[1] == tables[2]


def test_a_dead_worker_costs_its_episode_only(tmp_path):
    (tmp_path / "scratch").mkdir()
    ball = Ball(kill=frozenset({3}), kill_once=frozenset({5}), scratch=tmp_path / "scratch")
    table = sweep(tmp_path / "out", 12, ball, workers=2)
    rows = table.to_pylist()
    assert [row["index"] for row in rows] == list(range(12))
    assert rows[3]["failure"] == "error: worker died twice (exit code -9)" and not rows[3]["success"]
    assert all("error" not in row["failure"] for row in rows if row["index"] != 3)
    assert summarize(table)["errors"] == 1
    ran = (tmp_path / "scratch" / "ran").read_text().split()
    assert ran.count("3") == 2 and ran.count("5") == 2


def test_a_worker_that_dies_while_it_starts_costs_nothing(tmp_path):
    table = sweep(tmp_path / "out", 6, rollouts.DyingOnce(tmp_path), workers=2)
    assert (tmp_path / "died").exists()
    assert table["index"].to_pylist() == list(range(6))
    assert summarize(table)["errors"] == 0


def test_a_hung_worker_is_killed_and_its_episode_marked():
    draws = BOUND.draws(4, 0)
    outcomes = list(run_local(Ball(hang=frozenset({1})), draws, workers=1, timeout=1.0))
    errors = {o.draw.index: o.error for o in outcomes}
    assert errors.pop(1).startswith("worker died twice")
    assert errors == {0: "", 2: "", 3: ""}


def test_a_worker_that_stops_or_dies_in_the_middle_of_a_message_costs_its_episode_only(tmp_path):
    ball = Ball(stop_midway=frozenset({1}), die_midway=frozenset({2}), scratch=tmp_path)
    try:
        outcomes = list(run_local(ball, BOUND.draws(6, 0), workers=2, timeout=1.0))
    finally:
        (tmp_path / "over").touch()
    errors = {o.draw.index: o.error for o in outcomes}
    assert sorted(errors) == list(range(6))
    assert {i for i, error in errors.items() if error} == {1, 2}
    assert errors[1] == errors[2] == "worker died twice (exit code -9)"


def test_what_does_not_fit_the_line_is_not_waited_for(monkeypatch):
    """A worker that never listens, with draws far larger than what a socket takes."""
    monkeypatch.setattr(workers, "STARTING", 0.5)
    monkeypatch.setattr(workers, "STARTS", 1)
    draws = [Draw(i, i, {f"parameter {k}": 0.5 for k in range(20_000)}) for i in range(2)]
    with pytest.raises(Sim2RealError, match="die while they start"):
        list(run_local(rollouts.hanging_factory, draws, workers=1))


def test_large_recipes_draws_and_rows_arrive(tmp_path):
    ball = Ball(kill=frozenset(range(10, 50_000)), bulk=1_000_000)
    draws = [Draw(i, i, {"x": 0.5} | {f"parameter {k}": 0.5 for k in range(20_000)}) for i in range(4)]
    outcomes = list(run_local(ball, draws, workers=2))
    assert sorted(o.draw.index for o in outcomes) == [0, 1, 2, 3]
    assert all(len(o.row["bulk"]) == 1_000_000 and not o.error for o in outcomes)


def test_workers_that_die_before_they_read_their_recipe_end_the_run(monkeypatch):
    """As where memory is short. The recipe is larger than what a pipe takes."""
    resource_tracker.ensure_running()
    monkeypatch.setattr(multiprocessing.spawn, "get_executable", lambda: b"/bin/false")
    with pytest.raises(Sim2RealError, match="exit code 1"):
        list(run_local(Ball(kill=frozenset(range(10, 50_000))), BOUND.draws(4, 0), workers=2))


def test_an_exception_marks_its_row(tmp_path):
    table = sweep(tmp_path, 8, Ball(fail=frozenset({2})), workers=1)
    assert table["failure"].to_pylist()[2] == "error: ZeroDivisionError: draw 2"
    assert summarize(table)["errors"] == 1


def test_a_sweep_that_only_raises_ends_early_and_leaves_nothing(tmp_path):
    with pytest.raises(Sim2RealError, match="all ended in an error.*ZeroDivisionError"):
        sweep(tmp_path, 200, Ball(fail=frozenset(range(200)), scratch=tmp_path), workers=0)
    assert len((tmp_path / "ran").read_text().split()) == 10
    assert len(sweep(tmp_path, 4)) == 4  # the mended rollout starts from nothing


@pytest.mark.parametrize(
    "factory, kind, message",
    [
        (rollouts.broken_factory, UserError, "no such task"),
        (rollouts.raising_factory, Sim2RealError, "KeyError"),
        (rollouts.dying_factory, Sim2RealError, "exit code 7"),
        (rollouts.refusing_factory, UserError, "nonsense"),
    ],
)
def test_a_broken_setup_ends_the_sweep_with_its_reason(tmp_path, factory, kind, message):
    with pytest.raises(kind, match=message):
        sweep(tmp_path, 4, factory, workers=1)


def test_resuming_runs_only_what_is_missing(tmp_path):
    whole = comparable(sweep(tmp_path / "whole", 30))
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    scratch.mkdir()
    sweep(out, 12)
    # A crash may leave parts beside results, and rows twice.
    store = SweepStore(out)
    store.append(sweep(tmp_path / "other", 15).to_pylist()[10:])
    assert store.done() == set(range(15))
    table = sweep(out, 30, Ball(scratch=scratch))
    assert comparable(table) == whole
    assert sorted(map(int, (scratch / "ran").read_text().split())) == list(range(15, 30))
    # Asking for fewer again gives those, and keeps the others.
    assert comparable(sweep(out, 12)) == whole[:12]
    assert store.read().num_rows == 30
    assert json.loads((out / "config.json").read_text())["draws"] == 30


def test_another_sweep_in_the_same_place_is_refused_naming_the_difference(tmp_path):
    sweep(tmp_path, 4)
    with pytest.raises(UserError, match=r"seed: 0 there, 1 here"):
        sweep(tmp_path, 4, identity={"task": "ball", "seed": 1})
    with pytest.raises(UserError, match=r"space: null there"):
        sweep(tmp_path, 4, identity=IDENTITY | {"space": {"x": 2}})
    with pytest.raises(UserError, match="cannot grow"):
        sweep(tmp_path, 5, enlargeable=False)
    assert SweepStore(tmp_path).read().num_rows == 4
    (tmp_path / "config.json").write_text('{"command": "pretrain"}')
    with pytest.raises(UserError, match="another kind of run"):
        sweep(tmp_path, 4)


def test_two_sweeps_do_not_share_a_directory(tmp_path):
    with SweepStore(tmp_path).locked(), pytest.raises(UserError, match="another sweep"):
        sweep(tmp_path, 4)


INTERRUPTED = """
import sys
from pathlib import Path
from tests.randomization.rollouts import Ball
from tests.randomization.test_sweep import sweep
if __name__ == "__main__":
    try:
        sweep(Path(sys.argv[1]), 400, Ball(interrupt=20, slow=0.01), workers=2)
    except KeyboardInterrupt:
        sys.exit(130)
"""


def test_ctrl_c_keeps_what_is_done_and_the_sweep_goes_on_later(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    words = [sys.executable, script, tmp_path / "out"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, start_new_session=True)
    assert (done.returncode, done.stderr) == (130, "")
    table = SweepStore(tmp_path / "out").read()
    assert 10 <= table.num_rows < 400 and not (tmp_path / "out" / "parts").exists()
    assert comparable(sweep(tmp_path / "out", 400)) == comparable(sweep(tmp_path / "whole", 400))


KILLED = INTERRUPTED.replace("interrupt=20, slow=0.01", "slow=0.05")


def test_a_killed_sweep_keeps_its_flushed_parts(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        KILLED.replace("from tests", "import randomization.sweep as s; s._FLUSH_ROWS = 4\nfrom tests")
    )
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, script, tmp_path / "out"], env=env)
    parts = tmp_path / "out" / "parts"
    try:
        while len(list(parts.glob("*.parquet"))) < 3:
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    # Four rows a part, or fewer on a machine so busy that a part is due by the clock.
    assert SweepStore(tmp_path / "out").read().num_rows >= 3
    assert comparable(sweep(tmp_path / "out", 400)) == comparable(sweep(tmp_path / "whole", 400))


def test_draws_to_halve_the_interval():
    more = draws_to_halve(50, 100)
    before, after = wilson_interval(50, 100), wilson_interval((100 + more) // 2, 100 + more)
    assert after[1] - after[0] == pytest.approx((before[1] - before[0]) / 2, rel=0.01)
    assert 290 < more < 330
    assert draws_to_halve(100, 100) > 50


class Faulty:
    """A rollout whose policy raises for odd draws and returns rubbish for the fourth."""

    def __call__(self):  # type: ignore[no-untyped-def]
        def rollout(draw: Draw) -> dict[str, object]:
            if draw.index % 2:
                raise PolicyError("raised KeyError: 'goal'")
            return {
                "success": True,
                POLICY_FAULT: "returned values that are not finite" if draw.index == 4 else "",
            }

        return rollout


def test_what_a_policy_did_wrong_is_counted_and_named(tmp_path: Path) -> None:
    table = run_sweep(Faulty(), [Draw(index=i) for i in range(6)], tmp_path / "a", identity={}, workers=0)
    summary = summarize(table)
    assert summary["policy_faults"] == {
        "raised KeyError: 'goal'": 3,
        "returned values that are not finite": 1,
    }
    assert (
        summary["failures"] == {"error: the policy raised KeyError: 'goal'": 3} and summary["successes"] == 3
    )
    # Of errors alone nothing is kept, however few they are.
    with pytest.raises(
        Sim2RealError, match="first 2 episodes all ended in an error, the last one: the policy raised"
    ):
        run_sweep(Faulty(), [Draw(index=1), Draw(index=3)], tmp_path / "b", identity={}, workers=0)
    assert not (tmp_path / "b" / "results.parquet").exists()


SCRIPT = """
import sys
print("the script runs", flush=True)
from randomization.workers import run_local
from sim2real.parameters import Draw
from tests.randomization.rollouts import Ball
print(sum(not o.error for o in run_local(Ball(), [Draw(index=i, values={"x": 0.1, "y": 0.1}) for i in range(4)], 2)))
"""


@pytest.mark.parametrize("way", ["file", "command", "input", "module"])
def test_a_script_without_a_main_guard_runs_once(way: str, tmp_path: Path) -> None:
    (tmp_path / "unguarded.py").write_text(SCRIPT)
    words = {
        "file": ["unguarded.py"],
        "command": ["-c", SCRIPT],
        "input": ["-"],
        "module": ["-m", "unguarded"],
    }[way]
    root = str(Path(__file__).parents[2])
    found = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}, input=SCRIPT,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (found.stdout, found.returncode) == ("the script runs\n4\n", 0), found.stderr
