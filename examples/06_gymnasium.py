"""The tasks as Gymnasium environments: one step, one draw again, several at once.

    python examples/06_gymnasium.py

docs/gymnasium.md says what observation, action and reward are.
"""

import gymnasium
import numpy as np

import sim2real.simulation.environment  # noqa: F401  (registers the environments)
from randomization import Space, Uniform

env = gymnasium.make("sim2real/Push-v0", space=Space({"object.cube.mass": Uniform(0.02, 0.1)}, base="task"))
observation, info = env.reset(seed=1)
total = 0.0
while True:
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    total += float(reward)
    if terminated or truncated:
        break
print(f"a random policy: reward {total:.1f}, ended {info['stage']}, success {info['success']}")

# The same world once more, to the bit.
again, _ = env.reset(options={"draw": info["draw"]})
print("the first observation of that draw:", again[:6].round(3))
env.close()

envs = gymnasium.make_vec("sim2real/Reach-v0", num_envs=4, vectorization_mode="sync", max_seconds=1.0)
envs.reset(seed=0)
observations, rewards, *_ = envs.step(np.zeros((4, 6), np.float32))
print(f"four worlds at once: observations {observations.shape}, rewards {rewards.round(2)}")
envs.close()
