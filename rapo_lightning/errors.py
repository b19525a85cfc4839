"""The two ways a command can fail for a reason the user can mend."""

from __future__ import annotations


class UserError(Exception):
    """Bad input, found before any model is loaded: exit code 2.

    The message is one sentence with what is wrong, what came and what to do.
    """

    exit_code = 2


class RunError(UserError):
    """Something failed on the way (a full disk, a damaged file): exit code 1. What was written before stays valid."""

    exit_code = 1
