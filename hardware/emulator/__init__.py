"""Servos, bus and camera that speak the real protocols with simulated physics behind them."""
