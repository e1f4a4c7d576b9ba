"""Reports, one file a kind."""
