"""Many arms."""
