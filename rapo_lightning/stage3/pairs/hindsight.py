"""Pairs in hindsight: a video is what its text asks for, whatever was asked for, and what whoever asked for that wanted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ...data.store import Row
from ...data.trajectory import restated_request
from ...errors import UserError
from ...prompting.judging import shown_in
from ...prompting.text import content_words, words
from .filter import Candidate, plain
from .funnel import Step

NAME = "hindsight"
_OF_THE_REQUEST = ("prompt_id", "source_prompt", "phys_law")


@dataclass(frozen=True)
class _Sight:
    """A round whose video the judge saw to be what its text says.

    Attributes:
        item: The round.
        shown: What the judge saw.
        words: The words of that, in order.
        share: Share of these that the text has.
    """

    item: Candidate
    shown: str
    words: tuple[str, ...]
    share: float

    def pair(self, request: str, prompt: Row) -> Candidate:
        """The text as an answer to a request, which is a prompt's or stands for it.

        Scores and gaps are left out, since they are of the round's own request.
        """
        row = {name: value for name, value in self.item.row.items() if not name.startswith("score_")}
        row |= {name: prompt.get(name) for name in _OF_THE_REQUEST} | {"source_prompt": request}
        return Candidate(row, None, (row,), f"{NAME} {row['prompt_id']}")


def hindsight(candidates: Sequence[Candidate], least: float, most: int = 0, others: bool = True) -> list[Candidate]:
    """Rounds with what the judge saw in the place of the request, and with the requests of others that it saw fulfilled.

    After hindsight experience replay (Andrychowicz et al. 2017, arXiv:1707.01495), where a failed try is a success at what it
    reached. The judge says what a video shows before it sees the request, so its words are not the request's. Where it also restates
    requests (`Judgement.restated`), each prompt gets the text whose video shows all of that, in the same order: a video is a
    success of every prompt that it would have fulfilled.

    Args:
        candidates: Rounds.
        least: Least share of the description's words that a text must have: where the video model did not follow the text, or the
            video shows nothing that can be named, the two have little in common.
        most: Pairs that every two words in a row of what was seen are brought to, as far as there are so many, those with rare ones
            first, so that what is often tried drowns the rest less; 0 takes of each prompt the round with the highest share instead.
        others: Whether prompts also get the texts of videos that they would have been fulfilled by.

    Returns:
        The pairs, each pair of texts once.

    Raises:
        UserError: If no critique says apart what the video shows.
    """
    seen = list(_sights(candidates, least))
    if candidates and not seen and not any(shown_in(str(item.row.get("critique") or "")) for item in candidates):
        raise UserError(
            "`stage3.hindsight` needs critiques that say what a video shows, as those of `VlmAlignment` do. Got none in the rounds; "
            "collect with that verifier, or set it to 0."
        )
    chosen = _spread(seen, most) if most else _best(seen)
    pairs = [sight.pair(sight.shown, sight.item.row) for sight in chosen]
    pairs += _fulfilled(candidates, seen) if others else []
    return list({(plain(item.request), plain(item.text)): item for item in pairs}.values())


def shared(shown: str, text: str) -> float:
    """Share of the words of a description that a text has as well."""
    own = set(words(shown))
    return len(own & set(words(text))) / len(own) if own else 0.0


def _sights(candidates: Sequence[Candidate], least: float) -> Iterator[_Sight]:
    for item in candidates:
        shown = shown_in(str(item.row.get("critique") or ""))
        share = shared(shown, item.text)
        if shown and share >= least:
            yield _Sight(item, shown, tuple(words(shown)), share)


def _best(seen: Sequence[_Sight]) -> list[_Sight]:
    """Of each prompt the round with the highest share, the first of equals."""
    best: dict[str, _Sight] = {}
    for sight in seen:
        if sight.share > getattr(best.get(sight.item.trajectory), "share", 0.0):
            best[sight.item.trajectory] = sight
    return list(best.values())


def _spread(seen: Sequence[_Sight], most: int) -> list[_Sight]:
    """Rounds until every two words in a row of what was seen have `most` of them, or all there are."""
    once = list({(plain(sight.shown), plain(sight.item.text)): sight for sight in seen}.values())
    phrases: list[set[tuple[str, ...]]] = [set(pairwise(sight.words)) or {sight.words} for sight in once]
    count = Counter(phrase for found in phrases for phrase in found)
    # By their rarest phrase, and of these the first ones first.
    order = sorted(range(len(once)), key=lambda place: min(count[phrase] for phrase in phrases[place]))
    taken, kept = Counter[tuple[str, ...]](), []
    for place in order:
        if any(taken[phrase] < most for phrase in phrases[place]):
            taken.update(phrases[place])
            kept.append(place)
    return [once[place] for place in sorted(kept)]


def _fulfilled(candidates: Sequence[Candidate], seen: Sequence[_Sight]) -> Iterator[Candidate]:
    """For each prompt that a judge restates the text of the video that shows all of it, the one that has most of what was seen."""
    by_word: defaultdict[str, list[_Sight]] = defaultdict(list)
    # Of texts that show the same the first that has most of it.
    for sight in {sight.words: sight for sight in sorted(seen, key=lambda sight: sight.share)}.values():
        for word in set(sight.words):
            by_word[word].append(sight)
    for rounds in {item.trajectory: item.rounds for item in candidates}.values():
        restated = restated_request(rounds)
        wanted = words(restated)
        if content_words(restated):
            rarest = min((by_word.get(word, []) for word in wanted), key=len)
            found = [sight for sight in rarest if _within(wanted, sight.words)]
            if found:
                yield max(found, key=lambda sight: sight.share).pair(str(rounds[0]["source_prompt"]), rounds[0])


def _within(wanted: Iterable[str], there: Sequence[str]) -> bool:
    """Whether words stand in others in the same order; those may have more between them."""
    left = iter(there)
    return all(word in left for word in wanted)


def with_hindsight(steps: Sequence[Step], least: float, most: int = 0, others: bool = True) -> list[Step]:
    """The filters' steps, and one more that adds the pairs in hindsight of all rounds; as they were where `least` is 0."""
    if not least:
        return list(steps)
    kept = {(plain(item.request), plain(item.text)): item for item in steps[-1].kept}
    found = hindsight(steps[0].kept, least, most, others)
    added = [item for item in found if (plain(item.request), plain(item.text)) not in kept]
    return [*steps, Step(NAME, [*steps[-1].kept, *added])]
