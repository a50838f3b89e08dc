"""Orders for a run from outside of its process, over a socket that only its owner can open."""

from __future__ import annotations

from .client import ask
from .listener import listen
from .orders import obey

__all__ = ["ask", "listen", "obey"]
