"""Feetech STS/SMS servos: registers, protocol, bus."""
