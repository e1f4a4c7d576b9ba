"""From recordings to a twin of the arm: reading, checking, replay, identification."""
