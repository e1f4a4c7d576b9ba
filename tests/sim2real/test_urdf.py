"""The arm's tree as read from a URDF."""

from pathlib import Path

import numpy as np
import pytest

from sim2real.errors import UserError
from sim2real.robot import Robot
from sim2real.urdf import ArmModel
from sim2real.urdf_file import rotation_from_rpy

ARM = """<robot name="two">
  <link name="base"/>
  <link name="upper"><inertial><origin xyz="0 0 0.1"/><mass value="1"/>
    <inertia ixx="0.01" iyy="0.01" izz="0.002" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="camera"><inertial><mass value="1"/>
    <inertia ixx="0.001" iyy="0.001" izz="0.001" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="slider"><inertial><mass value="0.5"/>
    <inertia ixx="0.001" iyy="0.001" izz="0.001" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <link name="tip"/>
  <joint name="turn" type="continuous"><parent link="base"/><child link="upper"/>
    <origin xyz="0 0 0.05" rpy="0 0 1.5707963267948966"/><axis xyz="0 2 0"/></joint>
  <joint name="mount" type="fixed"><parent link="upper"/><child link="camera"/><origin xyz="0 0 0.3"/></joint>
  <joint name="slide" type="prismatic"><parent link="camera"/><child link="slider"/>
    <origin xyz="0.1 0 0"/><axis xyz="1 0 0"/><limit lower="-0.1" upper="0.2"/></joint>
  <joint name="end" type="fixed"><parent link="slider"/><child link="tip"/><origin xyz="0.02 0 0"/></joint>
</robot>"""


def read(
    tmp_path: Path, text: str, joints: tuple[str, ...] = ("turn", "slide"), tool: str = "tip"
) -> ArmModel:
    path = tmp_path / "arm.urdf"
    path.write_text(text)
    return ArmModel.from_urdf(path, joints, tool)


def test_fixed_children_are_lumped_and_chains_of_fixed_joints_collapse(tmp_path: Path) -> None:
    model = read(tmp_path, ARM)
    assert model.parents.tolist() == [-1, 0]
    assert model.mass.tolist() == [2.0, 0.5]
    np.testing.assert_allclose(model.com[0], [0, 0, 0.2])
    # Both bodies are 0.1 m from the common centre: Steiner adds 1 · 0.1² each.
    np.testing.assert_allclose(np.diag(model.inertia[0]), [0.031, 0.031, 0.003])
    np.testing.assert_allclose(model.origins[1], [0.1, 0, 0.3])
    np.testing.assert_allclose(model.axes[0], [0, 1, 0])
    assert model.prismatic.tolist() == [False, True]
    assert (model.lower[0], model.upper[0]) == (-np.pi, np.pi)
    np.testing.assert_allclose(model.tool[10:], [0.02, 0, 0])


def test_the_model_cannot_be_changed(tmp_path: Path) -> None:
    model = read(tmp_path, ARM)
    with pytest.raises(ValueError, match="read-only"):
        model.chain[0, 0] = 1.0


def test_so101_has_a_branch_and_its_masses() -> None:
    model = Robot.load("so101").model
    assert model.parents.tolist() == [-1, 0, 1, 2, 3, 4]
    assert model.tool[0] == 4
    np.testing.assert_allclose(model.mass, [0.1, 0.103, 0.104, 0.079, 0.087, 0.012])
    assert model.descendants(4).tolist() == [False] * 4 + [True, True]


def test_a_rotation_of_roll_pitch_yaw() -> None:
    np.testing.assert_allclose(rotation_from_rpy(0, 0, np.pi / 2) @ [1, 0, 0], [0, 1, 0], atol=1e-15)
    np.testing.assert_allclose(rotation_from_rpy(np.pi / 2, 0, 0) @ [0, 1, 0], [0, 0, 1], atol=1e-15)


@pytest.mark.parametrize(
    ("change", "joints", "tool", "message"),
    [
        (("</robot>", ""), ("turn",), "tip", "not valid XML"),
        (("robot", "machine"), ("turn",), "tip", "must be <robot>"),
        (("", ""), ("turn", "twist"), "tip", "no joint 'twist'; its movable joints are turn, slide"),
        (("", ""), ("turn", "mount"), "tip", "type 'fixed'"),
        (("", ""), ("turn", "slide"), "hand", "no link 'hand'"),
        (("", ""), ("slide", "turn"), "tip", "list the joints from the base outward"),
        (("", ""), ("turn",), "base", "does not move"),
        (('value="0.5"', 'value="0"'), ("turn", "slide"), "tip", "has no mass"),
        (('ixx="0.01"', 'ixx="0.1"'), ("turn", "slide"), "tip", "belongs to no body"),
        (('xyz="0 2 0"', 'xyz="0 0 0"'), ("turn",), "tip", "must not be zero"),
        (('xyz="0 2 0"', 'xyz="0 2"'), ("turn",), "tip", "three finite numbers"),
        (('child link="slider"', 'child link="upper"'), ("turn",), "tip", "two parents"),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path, change: tuple[str, str], joints: tuple[str, ...], tool: str, message: str
) -> None:
    text = ARM.replace(*change) if change[0] else ARM
    with pytest.raises(UserError, match=message):
        read(tmp_path, text, joints, tool)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        ArmModel.from_urdf(tmp_path / "none.urdf", ("a",), "b")
