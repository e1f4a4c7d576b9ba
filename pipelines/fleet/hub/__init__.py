"""The hub: answers robots, keeps what they tell, offers what they are to run."""
