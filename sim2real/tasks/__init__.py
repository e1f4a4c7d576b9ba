"""Tasks with their scripted experts."""
