"""Emulated Feetech STS servos."""
