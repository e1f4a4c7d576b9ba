"""Faults by name, injected into an emulated arm."""
