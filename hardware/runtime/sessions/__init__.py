"""A run on an arm from arming to rest, and the person at the terminal."""
