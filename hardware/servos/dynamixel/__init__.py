"""Dynamixel X servos: registers, protocol, bus."""
