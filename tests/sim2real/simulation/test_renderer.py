"""Pictures: geometry against the camera model, light, optics, colours."""

import numpy as np
import pytest

from sim2real.parameters import Draw
from sim2real.simulation.world import World
from tests.sim2real.simulation.draws import random_draw

VISUAL = ("camera.", "light.", "colour.", "texture.", "distractors.")


def red(image: np.ndarray) -> np.ndarray:
    """(K, 2) column and row of pixels that look like the cube."""
    r, g, b = (image[..., i].astype(int) for i in range(3))
    rows, columns = np.nonzero((r > 60) & (r > 2 * g) & (r > 2 * b))
    return np.stack([columns, rows], axis=-1)


def green(image: np.ndarray) -> np.ndarray:
    r, g, b = (image[..., i].astype(int) for i in range(3))
    rows, columns = np.nonzero((g > 60) & (g > 1.8 * r) & (g > 1.8 * b))
    return np.stack([columns, rows], axis=-1)


@pytest.mark.parametrize("seed", range(4))
def test_the_picture_agrees_with_the_camera_model(push: World, seed: int) -> None:
    """Displaced, turned, zoomed and distorted: mark and cube appear where the camera says."""
    values = {n: v for n, v in random_draw(push.parameters, seed, ("camera.",)).values.items()}
    for name in (
        "camera.exposure",
        "camera.noise",
        "camera.blur",
        "camera.compression",
        "camera.white_balance",
    ):
        values[name] = 0.0
    # From in front, where the arm does not stand before the cube.
    values["camera.azimuth"] /= 3
    push.reset(Draw(values=values))
    image, camera = push.render(), push.camera()
    assert image.shape == (camera.height, camera.width, 3) and image.dtype == np.uint8
    truth = push.truth()
    # The mark's circumference, as the camera model draws it, encloses the green pixels and they fill it.
    angles = np.linspace(0, 2 * np.pi, 100)
    rim = truth.goal[:2] + 0.03 * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    outline = camera.project(np.column_stack([rim, np.full(100, 4e-4)]))
    pixels = green(image)
    np.testing.assert_allclose(pixels.min(axis=0), outline.min(axis=0), atol=1.5)
    np.testing.assert_allclose(pixels.max(axis=0), outline.max(axis=0), atol=1.5)
    corners = (
        np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
        * truth.objects["cube"].spec.measures[0]
        / 2
    )
    cube = camera.project(truth.objects["cube"].position + corners @ truth.objects["cube"].rotation.T)
    pixels = red(image)
    np.testing.assert_allclose(pixels.min(axis=0), cube.min(axis=0), atol=1.5)
    np.testing.assert_allclose(pixels.max(axis=0), cube.max(axis=0), atol=1.5)


def test_the_whole_workspace_is_in_view_even_when_the_camera_is_displaced(push: World) -> None:
    radius, angle = np.meshgrid(np.linspace(0.17, 0.27, 5), np.linspace(-0.7, 0.7, 9))
    places = np.stack([0.04 + radius * np.cos(angle), radius * np.sin(angle), 0 * radius + 0.0125], axis=-1)
    seen = []
    for seed in range(60):
        push.reset(random_draw(push.parameters, seed, ("camera.",)))
        camera = push.camera()
        seen.append(camera.contains(camera.project(places)))
    assert np.mean(seen) > 0.97
    push.reset()
    assert push.camera().contains(push.camera().project(places)).all()


def test_the_same_draw_gives_the_same_picture(push: World) -> None:
    draw = random_draw(push.parameters, 8, VISUAL)
    push.reset(draw)
    first, small = push.render(), push.render(width=160, height=120)
    push.reset(random_draw(push.parameters, 9, VISUAL))
    assert np.abs(push.render(width=160, height=120).astype(int) - small).max() > 0
    push.reset(draw)
    np.testing.assert_array_equal(push.render(), first)


def test_an_arm_over_the_table_casts_a_shadow_away_from_the_light(arm: World) -> None:
    arm.reset(Draw(values={"light.shadow": 1.0}))
    shaded = arm.render().astype(float).sum(axis=-1)
    arm.reset(Draw(values={"light.shadow": 0.0}))
    plain = arm.render().astype(float).sum(axis=-1)
    dark = np.argwhere(shaded < 0.9 * plain)[:, ::-1]
    assert len(dark) > 500
    ground = arm.camera().on_plane(dark)
    # The light stands ahead and to the left (azimuth 0.6): shadows fall back and to the right of the tool.
    tool = arm.truth().tool_position
    direction = np.array([np.cos(0.6), np.sin(0.6)])
    assert np.median((ground[:, :2] - tool[:2]) @ direction) < 0


def test_exposure_brightens_and_white_balance_tints(push: World) -> None:
    def mean(values: dict[str, float]) -> np.ndarray:
        push.reset(Draw(values={"colour.table": 0.4, "light.shadow": 0.0} | values))
        lower = push.render(width=160, height=120)[80:]
        return np.asarray(lower.reshape(-1, 3).mean(axis=0))

    plain, bright, warm = mean({}), mean({"camera.exposure": 0.5}), mean({"camera.white_balance": 0.15})
    assert bright / plain == pytest.approx(2**0.5, rel=0.05)
    assert warm[0] > 1.08 * plain[0] and warm[2] < 0.92 * plain[2]


def test_noise_blur_and_compression_do_what_they_say(push: World) -> None:
    def picture(values: dict[str, float]) -> np.ndarray:
        push.reset(Draw(seed=1, values=values))
        return push.render(width=320, height=240).astype(float)

    plain = picture({})
    noisy = picture({"camera.noise": 0.03})
    quiet = np.s_[180:230, 20:90]  # bare table
    assert (noisy - plain)[quiet].std() == pytest.approx(0.03 * 255, rel=0.1)
    sharpness = [np.abs(np.diff(image, axis=1)).max() for image in (plain, picture({"camera.blur": 1.2}))]
    assert sharpness[1] < 0.8 * sharpness[0]
    errors = [
        np.abs(picture({"camera.compression": strength}) - plain).mean() for strength in (0.05, 0.2, 0.6)
    ]
    assert 0 < errors[0] < errors[1] < errors[2] < 8


def test_another_size_is_the_same_view(push: World) -> None:
    push.reset()
    large, small = push.render(), push.render(width=320, height=240)
    reduced = large.reshape(240, 2, 320, 2, 3).mean(axis=(1, 3))
    assert np.abs(reduced - small).mean() < 2.0
