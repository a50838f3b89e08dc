"""What the adapters of all HTTP clients share."""
