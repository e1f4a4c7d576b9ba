"""The arm as arrays: kinematics, dynamics, servos. Compiled, batched, without a simulator."""
