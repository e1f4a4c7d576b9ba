"""Scripted experts: laws of the state without memory."""
