"""Where a client meets the stack: one file or folder per client, and `wrap`, the way in to all."""
