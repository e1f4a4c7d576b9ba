"""Learning and the commands: the only package that imports torch and lightning."""
