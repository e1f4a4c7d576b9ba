"""Small pictures without a simulator: rasterizer, the emulator's live picture, portraits of an arm."""
