"""Pure policies: synchronous state machines that are handed `now` and `u`, usable alone.

No file here imports an event loop, a clock, a random source, a client or a layer; a test checks it.
"""
