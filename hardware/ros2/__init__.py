"""ROS 2 without a ROS installation: messages, and a bridge to an arm."""
