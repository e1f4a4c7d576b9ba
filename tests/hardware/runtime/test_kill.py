"""A slice of benchmarks/kill.py: real processes die and hang; order and end state, judged by physics."""

import pytest

from pipelines.reliability.kill_trials import Bench

pytestmark = pytest.mark.realtime


@pytest.mark.slow
def test_whoever_dies_the_arm_ends_at_rest(tmp_path) -> None:
    """The recorder is killed and the run goes on; inference hangs and the arm holds, is lowered and let go."""
    with Bench(tmp_path) as bench:
        trial = bench.trial([("recorder", "kill"), ("inference", "stop")], seed=1)
    assert trial.problems == []
    assert trial.ended.startswith("limp_fault ['policy_late") and trial.ended.endswith("status 1")


@pytest.mark.slow
def test_a_full_disk_stops_the_recording_and_not_the_arm(tmp_path) -> None:
    with Bench(tmp_path) as bench:
        trial = bench.trial([("recorder", "fill")], seed=1)
        if any("before it said 'running'" in problem for problem in trial.problems):
            # A busy machine: control was late before the trial had begun, which says nothing of the disk.
            trial = bench.trial([("recorder", "fill")], seed=2)
    assert trial.problems == []
    assert trial.ended.startswith("limp")
