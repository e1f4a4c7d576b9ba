"""Runs in LeRobot's environment: write a checkpoint of random weights and what it answers to one observation.

python make_checkpoint.py KIND FOLDER      (KIND: act, diffusion); FOLDER/expected.json gets state and chunk
"""

import json
import sys
from pathlib import Path

import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors

kind, folder = sys.argv[1], Path(sys.argv[2])
torch.manual_seed(0)
features = {
    "observation.state": PolicyFeature(FeatureType.STATE, (6,)),
    "observation.images.front": PolicyFeature(FeatureType.VISUAL, (3, 96, 128)),
}
more = {
    "act": {
        "dim_model": 32,
        "n_heads": 2,
        "dim_feedforward": 64,
        "n_encoder_layers": 1,
        "n_vae_encoder_layers": 1,
        "chunk_size": 20,
        "n_action_steps": 20,
        "pretrained_backbone_weights": None,
    },
    "diffusion": {
        "horizon": 16,
        "n_action_steps": 8,
        "down_dims": (32, 64),
        "crop_shape": None,
        "num_inference_steps": 2,
    },
}[kind]
config = make_policy_config(
    kind,
    input_features=features,
    output_features={"action": PolicyFeature(FeatureType.ACTION, (6,))},
    device="cpu",
    push_to_hub=False,
    **more,
)
policy = get_policy_class(kind)(config).eval()
spread = {"mean": torch.tensor([1.0, 2, 3, 4, 5, 40]), "std": torch.full((6,), 10.0)}
spread |= {"min": spread["mean"] - 30, "max": spread["mean"] + 30}
picture = {"mean": torch.full((3, 1, 1), 0.5), "std": torch.full((3, 1, 1), 0.25)}
picture |= {"min": torch.zeros(3, 1, 1), "max": torch.ones(3, 1, 1)}
stats = {"observation.state": spread, "action": spread, "observation.images.front": picture}
before, after = make_pre_post_processors(config, dataset_stats=stats)
policy.save_pretrained(folder)
before.save_pretrained(folder)
after.save_pretrained(folder)

expected = {"rows": 20 if kind == "act" else 8}
if kind == "act":
    state = torch.tensor([10.0, -20, 30, -5, 0, 50])
    grey = torch.full((3, 96, 128), 128 / 255)
    with torch.no_grad():
        batch = before({"observation.state": state, "observation.images.front": grey, "task": ""})
        chunk = policy.predict_action_chunk(batch)
    expected |= {
        "state": state.tolist(),
        "chunk": [after(chunk[:, i])[0].tolist() for i in range(chunk.shape[1])],
    }
(folder / "expected.json").write_text(json.dumps(expected))
print("made", type(policy).__name__)
