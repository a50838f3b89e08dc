"""Another model, partition or transport for a call whose own one does not answer."""
