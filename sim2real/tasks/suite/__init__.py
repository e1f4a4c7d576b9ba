"""Suites: tasks that are declared as data, a goal over a scene, instead of a class each."""
