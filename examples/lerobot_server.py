"""A LeRobot checkpoint (ACT, diffusion, SmolVLA, …) as a policy server, from LeRobot's own environment.

    pip install lerobot==0.4.4            # in an environment of its own: its torch is another one than ours
    python examples/lerobot_server.py outputs/train/act/checkpoints/last/pretrained_model --port 5555
    sim2real deploy --policy tcp://127.0.0.1:5555 --task reach --port /dev/ttyACM0 --calibration my_arm.json \\
        --cameras cameras.toml --camera front=0 --seconds 30 --out runs/act

Needs lerobot, and 13_policy_server.py beside it for the messages. What the checkpoint calls observation.images.NAME is
the arm's camera NAME, or another one: --camera NAME=OURS.
"""

import argparse
import importlib
import io
import sys
from pathlib import Path

import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.policies.utils import populate_queues
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
IMAGES, STATE = "observation.images.", "observation.state"


class Units:
    """LeRobot's numbers: degrees from the middle of a joint's calibrated range, or per cent of it; the gripper always
    0 to 100."""

    def __init__(self, arm, units):
        self.lower, self.upper = np.array(arm["lower"]), np.array(arm["upper"])
        self.gripper = arm["joints"].index(arm["gripper"]) if arm["gripper"] else None
        self.degrees = units == "degrees"

    def from_radians(self, position):
        share = (position - self.lower) / (self.upper - self.lower)
        middle = (self.lower + self.upper) / 2
        values = np.degrees(position - middle) if self.degrees else 200 * share - 100
        if self.gripper is not None:
            values[..., self.gripper] = 100 * share[..., self.gripper]
        return values

    def to_radians(self, values):
        middle = (self.lower + self.upper) / 2
        span = self.upper - self.lower
        position = middle + np.radians(values) if self.degrees else self.lower + (values + 100) / 200 * span
        if (i := self.gripper) is not None:
            position[..., i] = self.lower[i] + values[..., i] / 100 * span[i]
        return position


class Checkpoint:
    """A policy as it was trained, its normalization included."""

    def __init__(self, path, device, cameras, instruction):
        config = PreTrainedConfig.from_pretrained(path)
        config.device, config.pretrained_path = device, path
        self.policy = get_policy_class(config.type).from_pretrained(path, config=config).to(device).eval()
        self.before, self.after = make_pre_post_processors(
            config, pretrained_path=path, preprocessor_overrides={"device_processor": {"device": device}}
        )
        self.config, self.device, self.instruction = config, device, instruction
        self.joints = config.input_features[STATE].shape[0]
        wanted = [key.removeprefix(IMAGES) for key in config.image_features]
        self.cameras = {name: cameras.get(name, name) for name in wanted}
        others = set(config.input_features) - {STATE} - {IMAGES + name for name in wanted}
        if others:
            sys.exit(f"{path} observes {', '.join(sorted(others))}, which an arm does not tell")

    def reset(self):
        self.policy.reset()

    @torch.no_grad()
    def chunk(self, state, pictures):
        """state (joints,) and pictures {name: JPEG} → actions (rows, joints), in LeRobot's units."""
        observation = {STATE: torch.from_numpy(state).float(), "task": self.instruction}
        for name, ours in self.cameras.items():
            image = np.asarray(Image.open(io.BytesIO(pictures[ours])).convert("RGB"))
            observation[IMAGES + name] = self.fitted(name, torch.tensor(image).permute(2, 0, 1) / 255)
        batch = dict(self.before(observation))  # adds the batch, normalizes, moves to the device
        batch.pop("action", None)
        if self.config.type == "diffusion":  # its memory is filled by whoever asks for single actions
            if self.config.image_features:
                batch["observation.images"] = torch.stack([batch[k] for k in self.config.image_features], -4)
            self.policy._queues = populate_queues(self.policy._queues, batch)
        rows = self.policy.predict_action_chunk(batch)
        return torch.stack([self.after(rows[:, i])[0] for i in range(rows.shape[1])]).float().cpu().numpy()

    def fitted(self, name, image):
        """(3, H, W) in the size that the checkpoint was trained on."""
        size = tuple(self.config.input_features[IMAGES + name].shape[1:])
        if image.shape[1:] != size:
            image = torch.nn.functional.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
        return image


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkpoint", help="a folder with config.json and model.safetensors, or a hub's name")
    parser.add_argument("--port", type=int, default=5555, help="of this machine only; 0: a free one")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--units", choices=("degrees", "normalised"), default="degrees", help="of its data set"
    )
    parser.add_argument("--fps", type=float, default=30, help="of its data set")
    parser.add_argument(
        "--rows", type=int, help="actions of a chunk that are sent (default: all, at most 256)"
    )
    parser.add_argument("--camera", action="append", default=[], metavar="NAME=OURS")
    parser.add_argument(
        "--instruction", default="", help="what a language model is told, e.g. 'pick up the cube'"
    )
    args = parser.parse_args()
    made = Checkpoint(
        args.checkpoint, args.device, dict(c.split("=", 1) for c in args.camera), args.instruction
    )
    grey = io.BytesIO()
    Image.new("RGB", (64, 48), (128, 128, 128)).save(grey, "JPEG")
    # Once before anybody waits; it also says how long its chunks are.
    made.reset()
    length = len(made.chunk(np.zeros(made.joints), dict.fromkeys(made.cameras.values(), grey.getvalue())))
    rows = min(length, args.rows or length, 256)
    episode = None

    def act(arm, fields, observation):
        nonlocal episode
        units = Units(arm, args.units)
        if len(arm["joints"]) != made.joints:
            print(
                f"hung up: this is for {made.joints} joints, the arm has {len(arm['joints'])}",
                file=sys.stderr,
            )
            raise EOFError
        if fields["episode"] != episode:
            episode = fields["episode"]
            made.reset()
        return units.to_radians(
            made.chunk(units.from_radians(observation["joint_position"]), observation)[:rows]
        )

    importlib.import_module("13_policy_server").serve(
        args.port, act, ["joint_position"], list(made.cameras.values()), horizon=rows, rate=args.fps
    )


if __name__ == "__main__":
    main()
