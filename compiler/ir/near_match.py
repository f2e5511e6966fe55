"""What a word that is not known was probably meant to be, for messages."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

LONGEST = 200  # characters of a word that somebody may have meant to type
AS_NEAR = 0.08  # of the ratio of equal characters: a second word this close to the first is named too


def near(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'a' or 'b'?`, or nothing."""
    named = [repr(m) for m in nearest(word, known)]
    return f"; did you mean {' or '.join(named)}?" if named else ""


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """The one or two that are most like the word, or none."""
    if len(word) > LONGEST:
        return []
    cutoff = 0.5 if len(word) < 3 else 0.6  # one letter of two is half of the word
    matches = get_close_matches(word, list(known), n=2, cutoff=cutoff)
    ratios = [SequenceMatcher(None, m, word).ratio() for m in matches]
    return [m for m, ratio in zip(matches, ratios, strict=True) if ratio > ratios[0] - AS_NEAR]
