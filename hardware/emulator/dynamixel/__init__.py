"""Emulated Dynamixel X servos."""
