"""What a run leaves behind: recorded episodes, black box, tick log."""
