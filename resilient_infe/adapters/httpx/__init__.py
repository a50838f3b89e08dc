"""Clients of httpx and httpx2: a transport with a stack around it."""
