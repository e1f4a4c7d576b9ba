"""The control loop: one tick, its supervisor, monitors and link to the arm."""
