"""What a fleet knows: policies and their files, robots, episodes, rollouts, and who did what."""
