"""Time limits: for a whole call (`Deadline`), and for one attempt (`AttemptTimeout`)."""
