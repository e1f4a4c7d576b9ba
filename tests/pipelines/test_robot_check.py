"""`sim2real robots --robot FILE` finds what is wrong in a robot's file, and says the nearest right name."""

from pathlib import Path

import pytest

from pipelines.cli import main
from pipelines.documentation import robots_page
from sim2real.robot import Robot, robot_names

KOCH = Path(Robot.load("koch").urdf)


def check(
    folder: Path, old: str, new: str, capsys: pytest.CaptureFixture[str], urdf: str = ""
) -> tuple[int, str]:
    """Exit status and standard error for the Koch's file with one change."""
    text = KOCH.with_suffix(".toml").read_text()
    assert old in text
    (folder / "arm.toml").write_text(text.replace(old, new, 1))
    (folder / "koch.urdf").write_text(urdf or KOCH.read_text())
    status = main(["robots", "--robot", str(folder / "arm.toml")])
    return status, capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rest = [0.0, -1.15, 1.42, -0.55, 0.0, 0.10]", "rest = [0.0, -66, 81, -32, 0.0, 6]",
         "degrees? In rad it would be [0, -1.152, 1.414, -0.5585, 0, 0.1047]"),
        ("home = [0.0,", "home = [2.9,", "pose 'home': joint shoulder_pan at 2.9 rad is outside its limits"),
        ("[gate]", "[gates]", "did you mean 'gate'?"),
        ("reach = 0.38", "reech = 0.38", "did you mean 'reach'?"),
        ("physics = 300", "phisics = 300", "did you mean 'physics'?"),
        ("velocity = 2.5", "velocitty = 2.5",
         "did you mean 'velocity'?"),
        ("velocity = 2.5", 'velocity = "2.5"', "velocity must be a number, got '2.5'"),
        ('name = "koch"', "name = 7", "name must be a text, got 7"),
        ("stribeck = 0.01", "stribek = 0.01", "did you mean 'stribeck'?"),
        ("viscous = { shoulder_pan", "viscous = { shoulder_pam",
         "did you mean 'shoulder_pan'?"),
        ("pwm_limit = 400", "pwm_limitt = 400", "did you mean 'pwm_limit'?"),
        ("pwm_limit = 400", "pwm_limit = 900", "register pwm_limit takes 0 to 885"),
        ("pwm_limit = 400", "present_position = 400", "register present_position can only be read"),
        ("[servo_settings.gripper]", "[servo_settings.griper]", "did you mean 'gripper'?"),
        ('protocol = "dynamixel"', 'protocol = "dynamixl"', "did you mean 'dynamixel'?"),
        ("baud = 1_000_000", "baud = 1_000_001", "baud = 1000001: servos of the family 'dynamixel' have"),
        ('model = "XL430-W250"', 'model = "XL430-W205"', "did you mean 'XL430-W250'?"),
        ("servo_id = 3", "servo_id = 253", "servo_id = 253; the IDs of Dynamixel X servos are 0 to 252"),
        ("servo_id = 3", "servo_id = 2", "servo IDs must differ"),
        ("[cameras.front]", "[monitors]\nwarmm = 3\n[cameras.front]", "[monitors] has no warmm"),
        ("[cameras.front]\nwidth = 640", "[cameras.front]\nwidht = 640", "camera 'front' lacks width"),
        ("[gate.torque]", "[mimic]\nfinger = 'gripper'\n[gate.torque]",
         "[mimic] names 'finger', which is not a movable joint"),
        ('tool_link = "tool"', 'tool_link = "tol"', "did you mean 'tool'?"),
        ('name = "elbow_flex"\nservo_id', 'name = "elbo_flex"\nservo_id', "'elbo_flex'"),
    ],
)  # fmt: skip
def test_mistakes_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
) -> None:
    status, error = check(tmp_path, old, new, capsys)
    assert status == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1, "one message"


def mesh(use: str, filename: str) -> str:
    text = f'<link name="shoulder"><{use}><geometry><mesh filename="{filename}"/></geometry></{use}>'
    return KOCH.read_text().replace('<link name="shoulder">', text, 1)


def test_a_collision_mesh_that_is_missing_is_named_and_a_visual_one_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, error = check(tmp_path, "", "", capsys, mesh("collision", "package://koch/meshes/shoulder.stl"))
    assert status == 2
    assert "the collision mesh 'package://koch/meshes/shoulder.stl' of link 'shoulder' was not found" in error
    assert "ROS_PACKAGE_PATH" in error
    status, error = check(tmp_path, "", "", capsys, mesh("visual", "meshes/shoulder.stl"))
    assert status == 0
    assert "note: the visual mesh 'meshes/shoulder.stl' of link 'shoulder' was not found" in error


def test_the_robots_that_ship_have_nothing_to_note(capsys: pytest.CaptureFixture[str]) -> None:
    for name in robot_names():
        assert main(["robots", "--robot", name]) == 0
    assert capsys.readouterr().err == ""


def test_joints_that_slide_are_simulated_but_not_driven_over_a_serial_port(
    capsys: pytest.CaptureFixture[str],
) -> None:
    panda = str(Path(__file__).parents[2] / "examples" / "panda" / "panda.toml")
    assert main(["robots", "--robot", panda]) == 0
    told = capsys.readouterr()
    assert "panda_finger_joint2 follows panda_finger_joint1" in told.out and "m, m/s" in told.out
    assert "serial servos do not move them" in told.err
    assert main(["emulate", "--robot", panda]) == 2
    assert "panda_finger_joint1 of panda slides" in capsys.readouterr().err


def test_documentation_is_the_declaration() -> None:
    page = Path(__file__).parents[2] / "docs" / "robots.md"
    assert page.read_text() == robots_page(), "python -m pipelines.documentation > docs/robots.md"
