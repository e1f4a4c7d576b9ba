"""What stops an arm when the loop cannot: watchdog, descent, emergency stop, escalation."""
