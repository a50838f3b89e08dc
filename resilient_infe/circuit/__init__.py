"""When to stop sending to a server that fails: the layer, and its state machine."""
