"""Demonstrations, training, fine-tuning and export of policies."""
