"""Meta-World: tasks of another project for policies of this one, from states, with their own simulator and experts."""
