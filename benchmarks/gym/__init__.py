"""The limit gym: ways of finding a limit, against servers that keep one, in virtual time."""
