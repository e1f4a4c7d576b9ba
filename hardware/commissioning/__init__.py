"""Putting an arm into service: finding servos, identifiers, calibration, inspection."""
