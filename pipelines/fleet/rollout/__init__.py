"""A new policy for a fleet, robot by robot, with a way back. Logic alone: no files, no network, no clock."""
