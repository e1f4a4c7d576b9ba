"""The same arm and objects in another physics engine, MuJoCo: only to test what was trained, never to train."""
