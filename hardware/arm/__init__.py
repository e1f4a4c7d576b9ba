"""A serial arm: its identity, its readings' plausibility, its commands."""
