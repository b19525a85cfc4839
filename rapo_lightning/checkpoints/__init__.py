"""Known checkpoints: where they are, where they come from, what they are, and whether they are whole."""

from .fetch import ensure, fetch
from .identities import identity, is_here, weights_identity
from .loading import loading
from .manifest import Entry, cache_folder, checkpoints_of, entries, locate, ready_folder
from .verify import verify

__all__ = [
    "Entry",
    "cache_folder",
    "checkpoints_of",
    "ensure",
    "entries",
    "fetch",
    "identity",
    "is_here",
    "loading",
    "locate",
    "ready_folder",
    "verify",
    "weights_identity",
]
