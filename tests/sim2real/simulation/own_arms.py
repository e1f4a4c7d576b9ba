"""Small arms of users, as text: a turning joint, a rail, and a parallel gripper whose second finger follows."""

from pathlib import Path

from sim2real.robot import Robot


def inertial(mass: float, x: float = 0.0) -> str:
    return (
        f'<inertial><origin xyz="{x} 0 0"/><mass value="{mass}"/>'
        '<inertia ixx="1e-4" iyy="1e-4" izz="1e-4" ixy="0" ixz="0" iyz="0"/></inertial>'
    )


def joint(
    name: str,
    kind: str,
    parent: str,
    child: str,
    xyz: str,
    axis: str,
    lower: float,
    upper: float,
    more: str = "",
) -> str:
    return (
        f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/><origin xyz="{xyz}"/>'
        f'<axis xyz="{axis}"/><limit lower="{lower}" upper="{upper}" effort="5" velocity="3"/>{more}</joint>'
    )


FINGER = '<collision><geometry><box size="0.01 0.01 0.04"/></geometry></collision>'

GRIPPER_ARM = (
    '<robot name="own"><link name="base"/>'
    + joint("lift", "prismatic", "base", "column", "0 0 0.2", "0 0 1", 0.0, 0.3)
    + f'<link name="column">{inertial(0.5)}</link>'
    + joint("turn", "revolute", "column", "beam", "0 0 0.1", "0 1 0", -1.5, 1.5)
    + f'<link name="beam">{inertial(0.2, 0.06)}</link>'
    + joint("left", "prismatic", "beam", "left_finger", "0.15 0.002 0", "0 1 0", 0.0, 0.04)
    + f'<link name="left_finger">{inertial(0.02)}{FINGER}</link>'
    # Mirrored, and geared down: it goes half as far, from a place of its own.
    + joint(
        "right", "prismatic", "beam", "right_finger", "0.15 -0.002 0", "0 1 0", -0.04, 0.0,
        '<mimic joint="left" multiplier="-0.5" offset="-0.003"/>',
    )
    + f'<link name="right_finger">{inertial(0.03)}{FINGER}</link>'
    + joint("flap", "revolute", "right_finger", "flap_link", "0.02 0 0", "1 0 0", -2.0, 2.0)
    + f'<link name="flap_link">{inertial(0.01, 0.01)}</link>'
    + '<joint name="end" type="fixed"><parent link="beam"/><child link="tool"/><origin xyz="0.15 0 0"/></joint>'
    '<link name="tool"/></robot>'
)  # fmt: skip

HEAD = """name = "own"
urdf = "own.urdf"
tool_link = "tool"
gripper = "left"
[rates]
policy = 30
command = 100
physics = 300
[poses]
home = [0.1, 0.3, 0.02]
rest = [0.05, 0.8, 0.01]
"""
JOINTS = """
[[joints]]
name = "lift"
servo_id = 1
velocity = 0.2
acceleration = 2.0
jerk = 80.0
[[joints]]
name = "turn"
servo_id = 2
velocity = 2.5
acceleration = 20.0
jerk = 800.0
[[joints]]
name = "left"
servo_id = 3
velocity = 0.1
acceleration = 2.0
jerk = 80.0
"""


def own_arm(
    folder: Path, urdf: str = GRIPPER_ARM, more: str = "", head: str = HEAD, joints: str = JOINTS
) -> Robot:
    """The robot of these texts, written to `folder`; `more` are further tables."""
    (folder / "own.urdf").write_text(urdf)
    (folder / "own.toml").write_text(head + more + joints)
    return Robot.load(folder / "own.toml")
