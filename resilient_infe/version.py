"""The version, apart from the names that the package loads."""

__version__ = "0.1.0"
