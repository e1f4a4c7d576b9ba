"""Poses in which the arm shows its card: safe, seen, and telling."""

import numpy as np
import pytest

from hardware.commissioning.camera_pose import shortest_side
from hardware.commissioning.view_planner import RUN_UP, ViewPlanner
from sim2real.camera import CameraModel
from sim2real.gate.gate import Gate

from .test_camera_pose import CARD, LENS, ROBOT, TRUTH, apart, fit_pose, held, tool, vars_of


@pytest.mark.parametrize(("guess", "readable"), [(False, 0.0), (True, 0.0), (False, 52.0)])
def test_from_nothing_to_a_camera_in_few_poses(guess: bool, readable: float) -> None:
    """Also where the card must look larger (`readable` px) than is usual to be read."""
    camera = CameraModel(**vars_of(TRUTH), camera_to_base=(TRUTH if guess else LENS).camera_to_base)
    planner = ViewPlanner(ROBOT, (ROBOT.lower, ROBOT.upper), camera, CARD, 16, guess=guess)
    gate, grip, position = Gate(ROBOT), held(1), np.array(ROBOT.home)
    while (way := planner.next(position)) is not None:
        for start, end in zip([position, *way], way):
            for k in range(1, 11):
                q = start + k / 10 * (end - start)
                assert gate.clearance(q) > 0.0 and gate.self_clearance(q) > 0.0
                card = CARD.corners @ (tool(q) @ grip)[:3, :3].T + (tool(q) @ grip)[:3, 3]
                assert card[:, 2].min() > 0.0
        # Every joint comes to the pose in one direction, by more than any play.
        np.testing.assert_allclose(np.abs(way[-1] - way[-2])[ROBOT.arm], RUN_UP, atol=1e-9)
        position = way[-1]
        pose = tool(position) @ grip
        away = TRUTH.position - pose[:3, 3]
        pixels = TRUTH.project(CARD.corners @ pose[:3, :3].T + pose[:3, 3])
        shown = pose[:3, 2] @ away > 0.4 * np.linalg.norm(away) and TRUTH.contains(pixels).all()
        planner.seen(position, pixels if shown and shortest_side(pixels) > readable else None)
    assert len(planner.views) == 16 and len(planner.tried) < 16 + (6 if guess else 40 if readable else 16)
    fit = fit_pose(ROBOT, LENS, planner.views, CARD)
    assert apart(fit.camera, TRUTH)[0] < 1e-4 and fit.position_deviation < 0.003
    assert all(np.all(view.approach[ROBOT.arm] != 0) for view in planner.views)  # type: ignore[index]


def test_it_finds_out_of_a_place_without_room() -> None:
    """Where the gate has stopped the arm, with its card just above the table."""
    planner = ViewPlanner(ROBOT, (ROBOT.lower, ROBOT.upper), LENS, CARD, 6)
    gate, barred = Gate(ROBOT), np.array([0.354, 0.407, 0.867, -0.845, 1.312, 0.052])
    assert gate.clearance(barred) < 0.001
    way = planner.next(barred)
    assert way is not None
    room = [gate.clearance(barred + share * (way[0] - barred)) for share in np.linspace(0.0, 1.0, 20)]
    assert min(room) > -1e-3 and room[-1] > 0.03
    # With no way at all to any pose it goes home, and is at the end of its wits there alone.
    planner._way = lambda start, end: None  # type: ignore[method-assign]
    assert [pose.tolist() for pose in planner.next(barred) or ()] == [list(ROBOT.home)]
    assert planner.next(np.array(ROBOT.home)) is None


@pytest.mark.slow
def test_it_gives_up_when_nothing_is_ever_seen() -> None:
    planner = ViewPlanner(ROBOT, (ROBOT.lower, ROBOT.upper), LENS, CARD, 6)
    position, poses = np.array(ROBOT.home), 0
    while (way := planner.next(position)) is not None:
        position, poses = way[-1], poses + 1
        planner.seen(position, None)
    assert poses == planner.most == 52 and not planner.views
