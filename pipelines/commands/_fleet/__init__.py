"""Subcommands of `sim2real fleet`, a file each: SUMMARY, HELP, EXAMPLES, add_arguments, run."""
