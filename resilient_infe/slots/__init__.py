"""How many attempts are in flight: the layer, and the slots that it hands out."""
