"""Rate limits: the layer, the allowance that counts and queues, and the learning of a limit."""
