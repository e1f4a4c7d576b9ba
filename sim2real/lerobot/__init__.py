"""Reading and writing LeRobot data sets."""
