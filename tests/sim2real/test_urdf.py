"""The arm's tree as read from a URDF."""

from pathlib import Path

import numpy as np
import pytest

from sim2real.errors import UserError
from sim2real.robot import Robot
from sim2real.urdf import ArmModel
from sim2real.urdf_file import UrdfFile, rotation_from_rpy

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


OFF = '<joint name="off" type="{}"><parent link="tip"/><child link="extra"/></joint><link name="extra"/></robot>'
TWICE = OFF.format("fixed").removesuffix('<link name="extra"/></robot>') + OFF.format("fixed").replace(
    "off", "of2"
)
RING = """<link name="a"/><link name="b"/>
  <joint name="ab" type="fixed"><parent link="a"/><child link="b"/></joint>
  <joint name="ba" type="fixed"><parent link="b"/><child link="a"/></joint></robot>"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('type="prismatic"', 'type="prismatik"'), "unknown type 'prismatik'.* did you mean 'prismatic'"),
        (('lower="-0.1" upper="0.2"', 'lower="0" upper="0"'), "'slide' has no range: .* both 0 m. Give it its range"),
        (('lower="-0.1" upper="0.2"', 'lower="0.3" upper="0.2"'), "lower limit 0.3 exceeds upper limit 0.2 m"),
        (('<limit lower="-0.1" upper="0.2"/>', ""), "limit of joint 'slide' needs a finite 'lower' and 'upper' .m."),
        (("</robot>", '<link name="loose"/></robot>'), "found 2 roots: base, loose.*type 'fixed'"),
        (('<child link="upper"/>', '<child link="base"/>'), "link"),
        (("</robot>", TWICE), "'extra' has two parents: joints 'off' and 'of2'.*no closed loops"),
        (("</robot>", RING), "links a, b form a closed loop"),
        (("</robot>", '<link name="tip"/></robot>'), "two links called 'tip'"),
        (('<link name="tip"/>', "<link/>"), "a <link> has no name"),
        (('izz="0.001" ixy="0"', 'izz="0.001" ixy="zero"'), "inertia of link 'camera' needs a finite 'ixy'"),
        (('ixx="0.01" iyy="0.01" izz="0.002"', 'ixx="1e4" iyy="1e4" izz="1e4"'), "100 m wide.*kg·m²"),
        (('<parent link="slider"/>', '<parent link="slidr"/>'), "link 'slidr', .* did you mean 'slider'"),
        (('<mass value="1"/>', '<mass value="${m}"/>'), 'xacro file.*value="[$].m}".*xacro arm.urdf > expanded.urdf'),
        (("<robot", '<robot xmlns:xacro="http://www.ros.org/wiki/xacro"'), None),
        (('<link name="base"/>', '<a:arm xmlns:a="http://www.ros.org/wiki/xacro"/>'), "it holds <xacro:arm>"),
    ],
)  # fmt: skip
def test_more_mistakes_are_named_with_their_remedy(
    tmp_path: Path, change: tuple[str, str], message: str | None
) -> None:
    assert change[0] in ARM
    text = ARM.replace(*change, 1)
    if message is None:
        assert read(tmp_path, text).n == 2
        return
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize("kind", ["floating", "planar", "revolute"])
def test_joints_that_nobody_lists_need_no_limits_and_are_locked(tmp_path: Path, kind: str) -> None:
    model = read(tmp_path, ARM.replace("</robot>", OFF.format(kind)))
    assert model.locked == ({"off": 0.0} if kind == "revolute" else {})
    assert model.places["extra"][0] == 1


def test_followers_in_a_circle_and_of_nothing_are_refused(tmp_path: Path) -> None:
    circle = ARM.replace('<axis xyz="1 0 0"/>', '<axis xyz="1 0 0"/><mimic joint="other"/>')
    other = OFF.format("continuous").replace("off", "other")
    circle = circle.replace("</robot>", other.replace("</joint>", '<mimic joint="slide"/></joint>'))
    with pytest.raises(UserError, match="slide → other → slide follow each other in a circle"):
        read(tmp_path, circle, ("turn",), "camera")
    with pytest.raises(
        UserError, match="'slide' follows 'trun', which is not a movable joint.* did you mean 'turn'"
    ):
        read(tmp_path, circle.replace('<mimic joint="other"/>', '<mimic joint="trun"/>'), ("turn",), "camera")


def test_what_is_odd_but_usable_is_remarked(tmp_path: Path) -> None:
    text = ARM.replace('ixx="0.01" iyy="0.01" izz="0.002"', 'ixx="0.01" iyy="0.01" izz="0.025"')
    head, slider = text.split('<link name="slider">')
    slider = slider.replace('ixx="0.001" iyy="0.001" izz="0.001"', 'ixx="0" iyy="0" izz="0"')
    path = tmp_path / "arm.urdf"
    path.write_text(f'{head}<link name="slider">{slider}')
    remarks = UrdfFile(path).remarks
    assert len(remarks) == 2
    assert "inertia of link 'upper' belongs to no body" in remarks[0]
    assert "link 'slider'" in remarks[1] and "point mass" in remarks[1]
