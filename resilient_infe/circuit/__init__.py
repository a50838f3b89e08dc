"""The circuit breaker: its layer, its state machine, and the window that it counts in."""
