"""ROS 2 bags: recordings there and back."""
