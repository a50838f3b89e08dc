"""Thin asynchronous shells around the policies, one per file."""
