"""`report`: the static gallery of a run."""

from __future__ import annotations

from pathlib import Path

from ..console import say


def report(run: str, /, *, limit: int = 200) -> Path:
    """Write the static gallery of a run.

    Args:
        run: Run folder.
        limit: Most prompts to show; a browser holds a few hundred videos.

    Returns:
        The page.
    """
    from ..report import write_report

    page = write_report(Path(run), limit)
    say(str(page))
    return page
