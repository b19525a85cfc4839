"""Identities and seeds derived from content, so that they do not depend on order, batch or process."""

from __future__ import annotations

import hashlib


def _digest(*parts: object) -> str:
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()


def prompt_id(source_prompt: str, phys_law: str) -> str:
    """Identity of a prompt: 16 hex digits of a hash of the prompt and its law."""
    return _digest(source_prompt, phys_law)[:16]


def derived_seed(*parts: object) -> int:
    """A seed in 0..2**31-1 that depends on all `parts` and on nothing else."""
    return int(_digest(*parts)[:8], 16) & 0x7FFFFFFF
