"""Puts a folder that was written here on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from ..console import say
from ..errors import RunError


def push_folder(
    folder: Path, repository: str, private: bool, kind: Literal["dataset", "model"], what: str, **which: Any
) -> None:
    """Makes a repository where there is none, and uploads a folder to it.

    Args:
        folder: The folder.
        repository: `OWNER/NAME`.
        private: Whether a new one is seen by its owner alone.
        kind: What the hub takes it for.
        what: What it is, for messages, such as `The views`.
        which: Patterns of files, as `HfApi.upload_folder` takes them.

    Raises:
        RunError: If the hub refuses, or cannot be reached.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(repository, repo_type=kind, private=private, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository, repo_type=kind, **which)
    except Exception as error:  # the hub's client raises its own, its transport's and value errors
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise RunError(
            f"{what} cannot be pushed to {repository!r}: {reason}. Log in with `hf auth login` and try again; what is pushed is "
            f"in {folder}."
        ) from error
    say(f"pushed to {repository}{', seen by its owner alone if it was new' if private else ''}")
