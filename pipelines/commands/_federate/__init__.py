"""Subcommands of `sim2real federate`, a file each: SUMMARY, HELP, EXAMPLES, add_arguments, run."""
