"""Sweeps on a Ray cluster of two nodes, each in processes of its own; skipped where Ray is not installed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from pipelines.sweeps.ray_engine import run_ray
from randomization.space import Space
from randomization.sweep import run_sweep
from sim2real.errors import UserError
from sim2real.parameters import Parameter
from tests.randomization import rollouts
from tests.randomization.rollouts import Ball

BOUND = Space().bind(
    {p.name: p for p in (Parameter("x", 0.5, "m", 0.0, 1.0), Parameter("y", 0.5, "", 0.0, 1.0))}
)


def test_without_ray_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"sim2real-transfer\[ray\]"):
        list(run_ray(Ball(), BOUND.draws(2, 0), 1))


LISTENING = """
from pipelines.sweeps.ray_engine import run_ray
from tests.pipelines.sockets import listening, marked
from tests.pipelines.test_ray_engine import BOUND
from tests.randomization.rollouts import Ball

for outcome in run_ray(Ball(), BOUND.draws(2, 0), 1):
    near, far = listening(marked("SIM2REAL_TEST"))
    print("OPEN", len(near) > 2, sorted(far))
"""


def test_a_private_cluster_listens_on_this_machine_alone() -> None:
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    root = Path(__file__).parents[2]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {
        "PYTHONPATH": str(root),
        "SIM2REAL_TEST": uuid4().hex,
    }
    done = subprocess.run(
        [sys.executable, "-c", LISTENING],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.stdout.splitlines() == ["OPEN True []", "OPEN True []"], done.stdout + done.stderr


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, logging_level="error", log_to_driver=False)
    assert len([node for node in ray.nodes() if node["Alive"]]) == 2
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def sweep(directory: Path, factory: Any, count: int = 24, **options: Any) -> list[dict[str, Any]]:
    table = run_sweep(
        factory, BOUND.draws(count, 0), directory, identity={"task": "ball"}, progress=False, **options
    )
    return list(table.drop_columns(["wall_seconds"]).to_pylist())


@pytest.mark.slow
def test_rows_are_those_of_local_workers(cluster: Any, tmp_path: Path) -> None:
    assert sweep(tmp_path / "ray", Ball(), engine=run_ray, workers=2) == sweep(
        tmp_path / "local", Ball(), workers=0
    )


@pytest.mark.slow
def test_a_dead_actor_costs_its_draw_only(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    ball = Ball(kill=frozenset({3}), kill_once=frozenset({5}), scratch=tmp_path / "scratch")
    rows = sweep(tmp_path / "ray", ball, 10, engine=run_ray, workers=0)
    assert [row["index"] for row in rows] == list(range(10))
    assert [row["index"] for row in rows if row["failure"].startswith("error")] == [3]


@pytest.mark.slow
def test_a_broken_setup_ends_the_sweep(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such task"):
        sweep(tmp_path / "ray", rollouts.broken_factory, engine=run_ray, workers=2)
