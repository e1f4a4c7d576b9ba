"""Tasks with their scripted experts; `registry` finds them by name."""
