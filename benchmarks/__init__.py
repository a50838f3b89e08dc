"""Measures what the library costs, against what users would pick or write instead."""
