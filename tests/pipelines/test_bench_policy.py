"""`bench-policy`: is a policy fast enough for its arm? And what an arm does with one that is not."""

import json

import pytest

from hardware.runtime.sources.inference import InferenceProcess
from pipelines import bench_policy
from pipelines.cli import main
from pipelines.deployment.busy import busy
from pipelines.deployment.policy_bench import lines_of, result_of
from pipelines.deployment.policy_pace import check_pace
from sim2real.errors import UserError
from sim2real.policies.latency import Coverage, Timing

STUBS = "tests.hardware.runtime.stubs"
COVERED = Coverage(10, 30.0)


def timing(p50: float, p95: float | None = None, p99: float | None = None) -> Timing:
    p95 = p50 if p95 is None else p95
    p99 = p95 if p99 is None else p99
    return Timing(100, p50, p50, p95, p99, p99)


def test_the_verdict_goes_by_the_slow_answers_at_load() -> None:
    fast, covered, slow = timing(0.001), timing(0.001, 0.04, 0.1), timing(0.01, 0.1, 0.2)
    names = {"policy": "p", "task": "reach", "robot": "so101", "threads": 1}
    found = result_of(COVERED, fast, fast, 1)
    assert found["deployable"] and found["keeps_rate"] and found["margin"] == pytest.approx(150)
    assert "keeps its rate, with 150 times" in "\n".join(lines_of(names | found))
    found = result_of(COVERED, fast, covered, 1)
    assert found["deployable"] and not found["keeps_rate"] and found["margin"] == pytest.approx(1.5)
    assert "its chunks cover it, with 1.5 times" in "\n".join(lines_of(names | found))
    found = result_of(COVERED, fast, slow, 1)
    assert not found["deployable"] and found["margin"] == pytest.approx(0.75)
    assert "chunks of 13 actions" in found["remedy"] and "too slow" in "\n".join(lines_of(names | found))


def test_an_arm_refuses_what_would_run_out_of_actions() -> None:
    assert check_pace("p", COVERED, timing(0.01, 0.03)) == ""
    told = check_pace("p", COVERED, timing(0.1, 0.12))
    assert "100 ms" in told and "cover up to 150 ms" in told
    with pytest.raises(
        UserError, match=r"takes 412 ms .*within 430 ms.* cover 150 ms.*Nothing has moved.*27 actions"
    ):
        check_pace("p", COVERED, timing(0.412, 0.43))


def test_the_inference_process_times_its_policy() -> None:
    source = InferenceProcess(f"{STUBS}:Slow", "reach", "so101", timed=True)
    try:
        source.wait_ready()
        assert source.timing is not None
        covered, found = source.timing
        assert covered == Coverage(8, 30) and 3 <= found.calls <= 25
        assert 0.35 <= found.p50 <= found.p95 <= found.longest
    finally:
        source.close()


def test_the_command_says_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench-policy", "zero", "--task", "reach", "--seconds", "0.1", "--load", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["deployable"] and found["load"]["processes"] == 2 and found["robot"] == "so101"
    assert found["idle"]["calls"] >= 3 and 0 < found["idle"]["p50_ms"] <= found["idle"]["p99_ms"]
    assert found["allowed_ms"]["chunk"] == pytest.approx(150)
    assert main(["bench-policy", f"{STUBS}:Slow", "--task", "reach", "--seconds", "0.1", "--load", "0"]) == 1
    assert "too slow for this arm" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.onnx"], "does not exist"),
        (["expert"], "add --task"),
        (["zero", "--task", "reach", "--threads", "2"], "--threads is for policy files"),
        (["zero", "--task", "reach", "--threads", "0"], "at least 1"),
        (["zero", "--task", "reach", "--load", "-1"], "0 or more"),
        (["zero", "--task", "reach", "--seconds", "0"], "must be positive"),
        ([f"{STUBS}:AlwaysRaising", "--task", "reach"], "RuntimeError: it never works"),
    ],
)
def test_mistakes_cost_one_message(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench-policy", *arguments]) == 2
    captured = capsys.readouterr()
    assert words in captured.err and not captured.out and "Traceback" not in captured.err


def test_the_function_gives_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    found = bench_policy("zero", "reach", seconds=0.05, load=0)
    assert found.deployable and found.keeps_rate and found.margin > 1
    assert repr(found).startswith("PolicyBench(zero: p99 ") and "keeps its rate" in str(found)
    with pytest.raises(UserError, match="takes a policy's file or name"):
        bench_policy(object(), "reach")  # type: ignore[arg-type]


def test_load_ends_with_whoever_wanted_it() -> None:
    import multiprocessing

    with busy(2):
        assert sum(p.name == "sim2real-load" for p in multiprocessing.active_children()) == 2
    assert not any(p.name == "sim2real-load" and p.is_alive() for p in multiprocessing.active_children())
