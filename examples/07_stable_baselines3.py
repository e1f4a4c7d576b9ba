"""A policy from another library: Stable-Baselines3's PPO on the environment, as a file that runs on an arm.

    pip install stable-baselines3
    python examples/07_stable_baselines3.py [STEPS]

`export_policy` puts what the environment does with an action into the network, so that `evaluate` and `deploy`
take the file like any other. A few thousand steps teach nothing yet; a million do.
"""

import sys

import torch
from stable_baselines3 import PPO

import sim2real.simulation.environment  # noqa: F401  (registers the environments)
from pipelines import evaluate, export_policy

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000

model = PPO("MlpPolicy", "sim2real/Reach-v0", n_steps=512, device="cpu", seed=0, verbose=1)
model.learn(steps)


class Actor(torch.nn.Module):
    """Observations to the action that PPO thinks best, without its guess of the value."""

    def __init__(self, policy: torch.nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return self.policy(observation, deterministic=True)[0]


path = export_policy(
    Actor(model.policy), "reach", "so101", out="runs/ppo/policy.onnx", about={"steps": steps}
)
print(evaluate(path, draws=20, workers=0))
print(f"sim2real deploy --policy {path} --port emulated --out runs/ppo/arm")
