"""Printed sheets in the emulated camera's pictures: where their corners are, what hides them, what a lens does."""

import base64
from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hardware.commissioning.board import Board, Card
from hardware.commissioning.camera_pose import nominal_hold
from hardware.drawing.picture import Picture
from hardware.drawing.sheet import Sheet
from hardware.emulator.sheets import HeldSheet, parse_request
from sim2real.camera import CameraModel
from sim2real.errors import UserError
from sim2real.model.kinematics import tool_pose
from sim2real.robot import Robot

from .test_picture import OBJECTS, VALUES, _pose

ROBOT = Robot.load("so101")
FRONT = CameraModel.looking_at((0.6, 0.3, 0.4), (0.2, 0.0, 0.1))
BENT = replace(FRONT, distortion=(-0.25, 0.08, 0.001, -0.001, 0.0))


def placed(turn: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    """A sheet's pose in the base frame that faces `FRONT`, `turn`ed about its own axes."""
    pose = np.eye(4)
    pose[:3, :3] = (
        Rotation.from_euler("x", 180, degrees=True).as_matrix() @ Rotation.from_rotvec(turn).as_matrix()
    )
    pose[:3, 3] = shift
    return np.asarray(FRONT.camera_to_base @ pose)


@pytest.mark.parametrize("camera", [FRONT, BENT], ids=["pinhole", "bent"])
@pytest.mark.parametrize("turn", [(0.0, 0.0, 0.3), (0.5, 0.3, 1.0), (-0.4, 0.6, 2.5)])
def test_corners_are_seen_where_they_are(camera: CameraModel, turn: tuple[float, float, float]) -> None:
    board = Board()
    sheet = Sheet(board.image(), board.size[0])
    pose = placed(turn, (0.02, -0.03, 0.35))
    image = Picture(ROBOT, camera, VALUES, OBJECTS).draw(_pose(), [(sheet, pose)])
    found = board.find(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    assert found is not None
    points = board.corners[found[0]] - np.array([*board.size, 0.0]) / 2
    errors = found[1] - camera.project(points @ pose[:3, :3].T + pose[:3, 3])
    assert len(errors) > 25 and np.abs(errors).max() < 0.4
    assert np.abs(errors.mean(axis=0)).max() < 0.08 and np.sqrt(np.mean(errors**2)) < 0.12


@pytest.mark.parametrize("camera", [FRONT, BENT], ids=["pinhole", "bent"])
def test_the_arm_holds_the_card(camera: CameraModel) -> None:
    card = Card()
    sheet = Sheet(card.image(), 1.4 * card.size)
    tool = np.eye(4)
    tool[:3, 3], tool[:3, :3] = tool_pose(ROBOT.model, ROBOT.home)
    pose = tool @ nominal_hold(card)
    image = Picture(ROBOT, camera, VALUES, OBJECTS).draw(_pose(), [(sheet, pose)])
    pixels = card.find(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    assert pixels is not None
    assert np.abs(pixels - camera.project(card.corners @ pose[:3, :3].T + pose[:3, 3])).max() < 0.35


def test_a_sheet_is_white_from_behind_and_hidden_by_what_stands_before_it() -> None:
    sheet = Sheet(np.zeros((40, 40), dtype=np.uint8), 0.1)
    picture = Picture(ROBOT, FRONT, VALUES, OBJECTS)
    front = placed((0.0, 0.0, 0.0), (0.0, 0.0, 0.4))
    assert picture.draw(_pose(), [(sheet, front)])[240, 320].max() < 30
    assert picture.draw(_pose(), [(sheet, placed((np.pi, 0.0, 0.0), (0.0, 0.0, 0.4)))])[240, 320].min() > 120
    beneath = front.copy()
    beneath[:3, 3] = FRONT.camera_to_base[:3, 3] + 2.0 * FRONT.rotation[:, 2]
    np.testing.assert_array_equal(picture.draw(_pose(), [(sheet, beneath)]), picture.draw(_pose()))


def test_a_bent_picture_shows_the_mark_where_the_lens_puts_it() -> None:
    image = Picture(ROBOT, BENT, VALUES, OBJECTS).draw(_pose(mark=(0.35, -0.1))).astype(int)
    green = np.argwhere((image[..., 1] > 90) & (image[..., 0] < 60))
    assert np.abs(green.mean(axis=0)[::-1] - BENT.project((0.35, -0.1, 0.0))).max() < 1.0
    assert np.abs(BENT.project((0.35, -0.1, 0.0)) - FRONT.project((0.35, -0.1, 0.0))).max() > 3.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": -1}, "width must be a positive number"),
        ({"width": float("nan")}, "width must be a positive number"),
        ({"held_by": "nobody"}, "held_by one of tool, base, camera"),
        ({"image": "no picture"}, "image is a PNG or JPEG"),
        ({"poses": [[1, 2], [3]]}, "list of 4 x 4 matrices"),
        ({"poses": [np.diag([2.0, 1.0, 1.0, 1.0]).tolist()]}, "must be rotations"),
        ({"colour": "red"}, "unknown colour"),
    ],
)
def test_requests_that_cannot_be_are_refused(change: dict, message: str) -> None:  # type: ignore[type-arg]
    image = base64.b64encode(cv2.imencode(".png", Card().image())[1].tobytes()).decode()
    request = {"image": image, "width": 0.07, "held_by": "tool", "poses": [np.eye(4).tolist()]}
    assert parse_request(request, 0.0)[1] is not None
    with pytest.raises(UserError, match=message):
        parse_request(request | change, 0.0)


def test_poses_take_turns_in_their_holders_frame() -> None:
    poses = np.stack([np.eye(4), np.eye(4)])
    poses[1, 0, 3] = 0.1
    tool = np.eye(4)
    tool[2, 3] = 0.3
    held = HeldSheet(Sheet(np.zeros((2, 2), np.uint8), 0.1), "tool", poses, 2.0, 5.0)
    places = [held.in_base(now, tool, np.eye(4))[:3, 3].tolist() for now in (5.0, 7.5, 9.0)]
    assert places == [[0.0, 0.0, 0.3], [0.1, 0.0, 0.3], [0.0, 0.0, 0.3]]
