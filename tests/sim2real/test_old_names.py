"""Files of earlier versions, in which there was one cube: round trips over generated ones."""

import json

import numpy as np
import pytest

from randomization.distributions import Uniform
from randomization.space import Space
from sim2real import old_names
from sim2real.lerobot import schema
from sim2real.parameters import Draw, load_twin
from sim2real.policies.file import PolicyInfo
from sim2real.robot import Robot
from sim2real.simulation.parameters import world_parameters
from sim2real.tasks.registry import load_task

ROBOT = Robot.load("so101")
LIFT = world_parameters(ROBOT, load_task("lift").objects)
REACH = world_parameters(ROBOT)
BACK = {new: old for old, new in old_names.PARAMETERS.items()}
FEATURES_BACK = {new: old for old, new in old_names.FEATURES.items()}


@pytest.mark.parametrize("seed", range(20))
def test_old_draws_mean_what_they_did(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [name for name in LIFT if rng.random() < 0.5] + ["object.cube.mass"]
    new = {name: float(rng.random()) for name in names}
    old = {BACK.get(name, name): value for name, value in new.items()}
    read = Draw.from_json(json.dumps({"index": 1, "seed": seed, "values": old}))
    assert old_names.current(read.values, LIFT) == new
    assert old_names.current(new, LIFT) == new, "what is new stays as it is"
    # A world without a cube declared its parameters, too, and they did nothing there.
    left = old_names.current(old, REACH)
    assert left == {name: v for name, v in new.items() if name in REACH}


def test_unknown_names_are_not_swallowed() -> None:
    assert old_names.current({"object.mas": 1.0}, REACH) == {"object.mas": 1.0}


def test_old_twins_and_spaces_are_read(tmp_path) -> None:
    twin = tmp_path / "twin.toml"
    twin.write_text('robot = "so101"\n[parameters]\n"object.mass" = 0.03\n"world.gravity" = 9.7\n')
    assert old_names.current(load_twin(twin), LIFT) == {"object.cube.mass": 0.03, "world.gravity": 9.7}
    old = Space({"object.mass": Uniform(0.01, 0.03), "object.friction": Uniform(0.5, 1)}, base="nominal")
    new = Space(
        {"object.cube.mass": Uniform(0.01, 0.03), "object.cube.friction": Uniform(0.5, 1)}, base="nominal"
    )
    assert old.bind(LIFT).to_dict() == new.bind(LIFT).to_dict()
    assert old.bind(LIFT).draws(4) == new.bind(LIFT).draws(4)
    everything = Space({"object.*": Uniform(0.5, 0.6)}, base="nominal")
    names = everything.with_parameters(["object.*=x0.9:x1.1"]).bind(
        {n: p for n, p in LIFT.items() if n != "object.cube.restitution"}
    )
    assert names.names == ("object.cube.mass", "object.cube.size", "object.cube.friction")


@pytest.mark.parametrize("seed", range(10))
def test_old_policy_files_observe_what_they_did(seed: int) -> None:
    rng = np.random.default_rng(seed)
    known = {f.name: f for f in (*load_task("push").features, *load_task("lift").features)}
    names = list(rng.permutation(list(known)))[: int(rng.integers(1, len(known) + 1))]
    info = PolicyInfo("push", "so101", ROBOT.joint_names, tuple(known[str(n)] for n in names), 10, 30, 100)
    assert PolicyInfo.from_json(info.to_json()) == info
    table = json.loads(info.to_json())
    table["format"] = 1
    table["features"] = [[FEATURES_BACK.get(name, name), size] for name, size in table["features"]]
    assert PolicyInfo.from_json(json.dumps(table)) == info


def test_a_new_policy_file_may_have_a_feature_with_an_old_name() -> None:
    table = json.loads(
        PolicyInfo("mine", "so101", ROBOT.joint_names, load_task("reach").features, 10, 30, 100).to_json()
    )
    table["features"] = [["cube", 3]]
    assert PolicyInfo.from_json(json.dumps(table)).features[0].name == "cube"


@pytest.mark.parametrize("task", ["reach", "push", "lift"])
def test_the_columns_of_recordings_are_told_apart_old_and_new(task: str) -> None:
    # How well an object is known was not recorded then.
    seen = [f for f in load_task(task).features if not f.name.endswith(".spread")]
    keys = {f.name: f.size for f in seen if not f.name.startswith("joint")}
    new = [name for key, size in keys.items() for name in schema.component_names(key, size)]
    old = []
    for key in keys:
        base = FEATURES_BACK.get(key, key)
        parts = {"goal": "xyz", "cube": "xyz", "cube_yaw": ("cos", "sin"), "cube_age": ("",)}[base]
        old += [f"{base}.{part}" if part else base for part in parts]
    expected = {key: len(columns) for key, columns in schema.grouped(new).items()}
    assert expected == keys and schema.grouped(old) == schema.grouped(new)
