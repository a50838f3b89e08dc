"""One limit over many processes: what is used of it, how fairly, and what it costs the store."""
