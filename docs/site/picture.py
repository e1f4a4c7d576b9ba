"""The arm at work, for the README: a still and a short animation, drawn by the project's own renderer.

python docs/site/picture.py      writes docs/assets/lift.png and docs/assets/lift.webp
"""

from dataclasses import replace
from pathlib import Path

from PIL import Image

import sim2real as s2r
from sim2real.camera import look_at

ASSETS = Path(__file__).parents[1] / "assets"
WIDTH, HEIGHT, EVERY = 560, 360, 3
EYE, TARGET, FOCAL = (0.62, 0.42, 0.30), (0.13, -0.01, 0.12), 1250.0
"""Where the spectator's camera stands and what it looks at, m in the base frame; its focal length, pixels of twice the
size that is kept."""


def main() -> None:
    size = {"width": 2 * WIDTH, "height": 2 * HEIGHT, "cx": WIDTH - 0.5, "cy": HEIGHT - 0.5}
    spectator = size | {"fx": FOCAL, "fy": FOCAL, "distortion": [0.0] * 5}
    spectator["camera_to_base"] = look_at(EYE, TARGET).tolist()
    robot, task = s2r.Robot.load("so101"), s2r.load_task("lift")
    robot = replace(robot, camera_tables={**robot.camera_tables, "spectator": spectator})
    with s2r.World(robot, task) as world:
        expert = s2r.load_policy("expert", task, robot)
        episode = s2r.rollout(world, expert, s2r.Draw(seed=4), privileged=True, images=("spectator",))
    frames = [Image.fromarray(image) for image in episode.images["spectator"][::EVERY]]
    frames = [frame.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS) for frame in frames]
    ASSETS.mkdir(exist_ok=True)
    frames[-1].save(ASSETS / "lift.png", optimize=True)
    period = 1000 * EVERY // robot.policy_rate
    frames[0].save(
        ASSETS / "lift.webp", save_all=True, append_images=[*frames[1:], *[frames[-1]] * 8],
        duration=period, loop=0, quality=70, method=6,
    )  # fmt: skip


if __name__ == "__main__":
    main()
