"""Cameras in processes of their own, and what is found in their pictures."""
