"""Policies: the protocol, policy files, policy servers."""
