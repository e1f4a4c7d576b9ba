"""The robot's side of a fleet, and what both sides say: messages, certificates, signatures, the link."""
