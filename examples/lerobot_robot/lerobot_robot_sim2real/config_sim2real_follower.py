"""What `--robot.…` takes for an arm that sim2real drives."""

from dataclasses import dataclass, field
from typing import Any

from lerobot.robots.config import RobotConfig


@RobotConfig.register_subclass("sim2real_follower")
@dataclass(kw_only=True)
class Sim2RealFollowerConfig(RobotConfig):
    """`sim2real` and `arguments` are the command that drives the arm, which may be of another environment.

    `port` is the arm's ("emulated" starts one), `calibration` its file. `views` are the cameras that are shown to
    LeRobot, by name with (height, width); `cameras_file` and `sources` ("front=0") say what they are, as
    `sim2real deploy --cameras FILE --camera front=0` does. `use_degrees`: joints in degrees from the middle of their
    range, otherwise in per cent of it. `out`: where each connection leaves its report.
    """

    port: str
    robot: str = "so101"
    calibration: str | None = None
    views: dict[str, list[int]] = field(default_factory=dict)
    cameras_file: str | None = None
    sources: list[str] = field(default_factory=list)
    use_degrees: bool = True
    speed: float = 1.0
    sim2real: str = "sim2real"
    arguments: list[str] = field(default_factory=list)
    joints: list[str] = field(
        default_factory=lambda: [
            "shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper",
        ]
    )  # fmt: skip
    out: str = "runs/lerobot"
    hold_after: float = 0.5
    """Seconds without an action after which the arm holds where its goal is."""
    patience: float = 300.0
    """Seconds for the arm to be found, armed and at home."""

    def __post_init__(self) -> None:
        super().__post_init__()
        bad: list[Any] = [name for name, size in self.views.items() if len(size) != 2]
        if bad:
            raise ValueError(f"a view is [height, width]; that of {bad[0]} is {self.views[bad[0]]}")
