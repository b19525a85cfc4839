"""Known checkpoints: where they are, where they come from, and whether they are whole."""

from .fetch import ensure, fetch
from .manifest import Entry, cache_folder, entries, locate, ready_folder
from .verify import verify

__all__ = ["Entry", "cache_folder", "ensure", "entries", "fetch", "locate", "ready_folder", "verify"]
