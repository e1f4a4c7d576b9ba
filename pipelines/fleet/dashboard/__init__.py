"""The fleet in a browser, and for Prometheus."""

from pathlib import Path

BOARD = Path(__file__).with_name("board.json")
"""A board for Grafana over what /metrics says."""
