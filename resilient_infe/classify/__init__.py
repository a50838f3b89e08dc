"""What an outcome means: the layer, the table, and how replies and exceptions are read."""
