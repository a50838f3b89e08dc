"""What everything here speaks: the call, its verdict, errors, guards, queues and checks."""
