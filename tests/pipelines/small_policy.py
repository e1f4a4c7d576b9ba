"""A policy file without training: it holds the arm where it was last told to be."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sim2real.observation import standard_features
from sim2real.policies.file import INFO_KEY, PolicyInfo
from sim2real.robot import Robot


def small_policy(path: Path, task: str = "reach", seed: int = 0, horizon: int = 16) -> Path:
    """Writes it to `path`; files of different seeds differ."""
    robot = Robot.load("so101")
    features = standard_features(["joint_position", "joint_command", "goal"], robot.n)
    info = PolicyInfo(
        task=task, robot=robot.name, joints=robot.joint_names, features=features, horizon=horizon,
        policy_rate=robot.policy_rate, command_rate=robot.command_rate, provenance={"seed": seed},
    )  # fmt: skip
    picked = np.zeros((info.observation_size, horizon * robot.n), dtype=np.float32)
    for joint in range(robot.n):
        picked[robot.n + joint, joint :: robot.n] = 1
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["observation", "picked"], ["flat"]),
            helper.make_node("Reshape", ["flat", "shape"], ["chunk"]),
        ],
        "hold",
        [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["B", info.observation_size])],
        [helper.make_tensor_value_info("chunk", TensorProto.FLOAT, ["B", horizon, robot.n])],
        [
            numpy_helper.from_array(picked, "picked"),
            numpy_helper.from_array(np.array([-1, horizon, robot.n], dtype=np.int64), "shape"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {INFO_KEY: json.dumps(json.loads(info.to_json()))})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path
