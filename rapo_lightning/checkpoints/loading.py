"""Turns what a library raises on a damaged or wrong folder into one sentence."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import RunError, UserError


@contextmanager
def loading(what: str, path: str | Path) -> Iterator[None]:
    """To be put around the lines that load weights, a tokenizer or a pipeline.

    Args:
        what: What is loaded, in words, such as `video model`.
        path: The folder or hub id that it is loaded from.

    Raises:
        RunError: If loading fails: a cut-off file, a missing one, the folder of another kind of model, no memory.
    """
    if Path(path).is_dir():
        _hide_bars()
    try:
        yield
    except UserError:
        raise
    # No list of types would do: tokenizers raise a bare `Exception`, safetensors and pickle types of their own.
    except Exception as error:
        found = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
        raise RunError(
            f"The {what} cannot be loaded from {path}. Got {type(error).__name__}: {found}; check that the folder holds "
            "such a model and is whole (`rapo-lightning ckpt verify` for a known checkpoint), or fetch it again."
        ) from error


def _hide_bars() -> None:
    """Reading a folder takes seconds and needs no bar; a download, which takes minutes, keeps its own."""
    for library in ("transformers", "diffusers"):
        logging = sys.modules.get(f"{library}.utils.logging")
        if logging is not None:
            logging.disable_progress_bar()
