"""The lab's extractor: reads places and modifiers off training captions by rule, the rows of a relation graph."""

from __future__ import annotations

import re
from collections.abc import Sequence

from relation_graph import GraphRow

from .reading import BODY, DIRECTION, PLACE, read_caption

_CLOSING = re.compile(r"\. ([^.]+)\.$")


class LabExtractor:
    """Extracts from the lab's captions; for real captions see `stage1.extract.LanguageModelExtractor`."""

    name = "lab"

    def extract(self, captions: Sequence[str], language_model: object) -> list[GraphRow | None]:
        """One row per caption, None where it is none of the lab's; see `stage1.extract.Extractor`."""
        return [extract_row(caption) for caption in captions]


def extract_row(caption: str) -> GraphRow | None:
    """The action as verb-object modifier, the closing sentence's clauses as scenario, the place as hub.

    Subjects and directions are left out: they are the request's own, and another request's would contradict it.
    """
    scene, place, closing = read_caption(caption), PLACE.search(caption), _CLOSING.search(caption)
    body = BODY.search(caption)
    if scene is None or place is None or closing is None or body is None:
        return None
    action = DIRECTION.sub("", BODY.sub("another body", caption[body.end() : place.start()]))
    scenarios = tuple(part.strip().lower() for part in re.split(r" and | while ", closing[1]))
    return GraphRow(caption, (" ".join(action.split()),), scenarios, (place[1],))
