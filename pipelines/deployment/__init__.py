"""Running a policy on an arm, and serving one."""
