"""The number of attempts in flight: the layer that limits it, and the slots that it hands out."""
