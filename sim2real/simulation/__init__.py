"""The PyBullet side: world, sensing, rendering, rollouts, the Gymnasium environment."""
