"""From a robot description and a USB cable to a policy you can trust on the arm."""

__version__ = "0.1.0"
