"""A fleet as discrete events: robots that collect, wait, break and learn."""
