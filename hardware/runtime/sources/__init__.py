"""Where goals come from: policies, leader arms, keys, recordings."""
