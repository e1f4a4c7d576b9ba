"""A data set of an arm as a log to identify or replay, and whose arm it is of."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipelines.identification.logs import ArmLog, load_arm_log, load_arm_logs
from pipelines.identification.misplaced_zeros import misplaced
from sim2real.lerobot import LeRobotDataset, robots
from sim2real.robot import Robot


def read_log(
    data: str | Path, robot: Robot, *, calibration: str | Path | None = None, units: str = "auto",
    episodes: str | None = None, arm: str | None = None, fps: float | None = None, remarks: Sequence[str] = (),
    nominal: Mapping[str, float] | None = None, names: Mapping[str, str] | None = None,
) -> ArmLog:  # fmt: skip
    """`load_arm_log` after `remarks` that are known already, and with one where the arm's zeros seem to be misplaced,
    judged by the twin `nominal`.

    Raises UserError.
    """
    log = load_arm_log(
        data, robot, calibration=calibration, units=units, episodes=episodes, arm=arm, fps=fps, names=names
    )
    doubt = misplaced(log, robot, nominal)
    return replace(log, remarks=(*remarks, *log.remarks, *([doubt] if doubt else [])))


def read_logs(
    data: str | Path, robot: Robot, *, calibration: str | Path | None = None, units: str = "auto",
    episodes: str | None = None, arm: str | None = None, fps: float | None = None, remarks: Sequence[str] = (),
    nominal: Mapping[str, float] | None = None, names: Mapping[str, str] | None = None,
) -> list[ArmLog]:  # fmt: skip
    """As `read_log`, with a log for each rate in the data set; the first, of most episodes, has the remarks.

    Raises UserError.
    """
    first, *others = load_arm_logs(
        data, robot, calibration=calibration, units=units, episodes=episodes, arm=arm, fps=fps, names=names
    )
    doubt = misplaced(first, robot, nominal)
    return [replace(first, remarks=(*remarks, *first.remarks, *([doubt] if doubt else []))), *others]


def robot_of(wanted: str | Path | Robot | None, data: str | Path) -> tuple[Robot, list[str]]:
    """The robot that is wanted, by default the one that the data set says it is of, and remarks on that.

    Raises UserError where the data set is of a robot that is not known, and none is wanted.
    """
    dataset = LeRobotDataset.open(data)
    if wanted is None:
        robot, remark = robots.robot_of(dataset)
        return robot, [remark] if remark else []
    robot = Robot.load(wanted)
    stated = dataset.notes.get("robot") or robots.named(dataset.robot_type)
    remarks = []
    if stated is not None and stated != robot.name:
        remarks.append(f"the data set says it is of {stated}; read as {robot.name}, as --robot says")
    for feature, others in robots.others_of(dataset, robot).items():
        remarks.append(f"{', '.join(others)} of {feature} are no joints of {robot.name}: left out of account")
    return robot, remarks
