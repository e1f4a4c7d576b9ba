"""`identify`: the simulated arm that moves as a recorded one did."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.sweeps.inputs import RobotLike
from randomization.space import Space

if TYPE_CHECKING:
    from pipelines.identification.identify import Identified
    from sim2real.lerobot.reader import LeRobotDataset


@dataclass(frozen=True, eq=False, repr=False)
class Twin:
    """An identified arm. Parameters by name, as worlds and draws have them."""

    robot: str
    parameters: Mapping[str, float] = field(repr=False)
    uncertainty: Mapping[str, float] = field(repr=False)
    """Standard deviation of each parameter."""
    space: Space = field(repr=False)
    """The ranges to train under: what the data leave open, and never less than the model is wrong by."""
    gap_degrees: float
    """RMS of simulated minus recorded joint angles, the mean over the arm's joints."""
    gap_before_degrees: float
    """That gap with nominal parameters, degrees."""
    undetermined: tuple[str, ...]
    """What the data say little about."""
    summary: Mapping[str, Any] = field(repr=False)
    """What identify.json holds."""
    found: "Identified" = field(repr=False)
    source: str = field(repr=False)

    def __repr__(self) -> str:
        return (
            f"Twin({self.robot} from {self.source}: {self.gap_before_degrees:.2f}° → {self.gap_degrees:.2f}°, "
            f"{len(self.parameters)} parameters, {len(self.undetermined)} undetermined)"
        )

    def save(self, out: str | Path) -> Path:
        """Write twin.toml, space.toml, identify.json and the report into the directory `out`; returns it."""
        from pipelines.identification.results import write_results
        from pipelines.reports.report import try_report

        write_results(self.found, out, self.source)
        try_report(str(out))
        return Path(out)


def identify(
    data: "LeRobotDataset | str | Path",
    robot: RobotLike | None = None,
    *,
    out: str | Path | None = None,
    episodes: str | None = None,
    calibration: str | Path | None = None,
    units: str = "auto",
    arm: str | None = None,
    fps: float | None = None,
    say: Callable[[str], None] | None = None,
) -> Twin:
    """Fit the simulated arm to a LeRobot data set (or ROS 2 bag) of the real one. robot: by default the data's own.

    out: also write the results there. episodes: which ones, as in "0:4,6". units: how joint angles are stored
    ("auto" finds out). arm: which of several. fps: the true rate, where the data set is wrong. say: told what is
    going on, line by line. Raises UserError for data from which nothing can be learned, naming the reason.
    """
    from pipelines.identification.identify import identify_arm
    from pipelines.identification.source import read_log, robot_of
    from pipelines.ros2.convert import as_dataset

    root = as_dataset(data, robot) if isinstance(data, str | Path) else data.root
    loaded, remarks = robot_of(robot, root)
    log = read_log(
        root, loaded, calibration=calibration, units=units, episodes=episodes,
        arm=arm or getattr(data, "arm", None), fps=fps, remarks=remarks,
    )  # fmt: skip
    return twin_of(identify_arm(log, loaded, str(root), say), str(root), out)


def twin_of(found: "Identified", source: str, out: str | Path | None = None) -> Twin:
    """What an identification found, saved in `out` unless that is None."""
    from pipelines.identification.results import ranges_of, space_table, summarized, uncertainty

    summary = summarized(found, source, None if out is None else Path(out))
    twin = Twin(
        robot=summary["robot"],
        parameters=found.model.table(found.fit.values),
        uncertainty=uncertainty(found),
        space=Space.from_dict(space_table(ranges_of(found))),
        gap_degrees=summary["mean_deg"],
        gap_before_degrees=summary["mean_before_deg"],
        undetermined=tuple(summary["undetermined"]),
        summary=summary,
        found=found,
        source=source,
    )
    if out is not None:
        twin.save(out)
    return twin
