"""Proving the runtime: chaos, kills, soaks."""
