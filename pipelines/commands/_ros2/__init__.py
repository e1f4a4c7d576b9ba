"""Subcommands of `sim2real ros2`, a file each: SUMMARY, HELP, EXAMPLES, add_arguments, run."""
