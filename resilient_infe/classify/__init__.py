"""What an outcome means: the layer, the table, and the code that reads replies and exceptions."""
