"""The static gallery of a run."""

from .gallery import write_report

__all__ = ["write_report"]
