"""How much is sent per minute: the layer, the allowance behind it, and what it learns."""
