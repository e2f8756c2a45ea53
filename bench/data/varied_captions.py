"""Varied captions of labelled images: a frame, a determiner, sometimes an adjective, and a closing around the class name.

No other word describes the image, so that no caption is wrong.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

from bench.data.mentions import MentionIndex

TEMPLATES = (
    "{}", "a {}", "the {}", "one {}", "a photo of a {}", "a photo of the {}", "a picture of a {}", "an image of the {}",
    "there is a {}", "here is the {}", "look at this {}", "it shows a {}",
)  # fmt: skip
"""Prompts for zero-shot classification, in the style of the captions."""

_FRAMES = (
    "{}", "{}", "{}", "a photo of {}", "photo of {}", "a picture of {}", "picture of {}", "an image of {}", "image of {}",
    "a snapshot of {}", "a photograph of {}", "a shot of {}", "a view of {}", "portrait of {}", "stock photo of {}",
    "file photo of {}", "a closer look at {}", "look at {}", "here is {}", "there is {}", "it is {}", "it shows {}",
    "you can see {}", "what you see is {}", "i found {}", "i took a picture of {}", "we came across {}", "they sent {}",
    "someone showed us {}", "the subject is {}", "an example of {}", "all about {}", "just {}", "nothing but {}",
    "once more {}", "untitled : {}", "new : {}", "{} in the picture", "{} in this photo", "{} as seen here",
    "{} caught on camera", "{} from our album", "{} up for sale", "{} and nothing else",
)  # fmt: skip
_DETERMINERS = ("", "a", "a", "a", "the", "the", "one", "this", "my", "our", "another")
_ADJECTIVES = (
    "nice", "lovely", "pretty", "fine", "great", "wonderful", "typical", "ordinary", "interesting", "familiar", "favourite",
    "remarkable", "particular", "single", "unnamed", "perfect",
)  # fmt: skip
_CLOSINGS = (
    "", "", "", "", "", "", "", "", "today", "yesterday", "this morning", "last week", "hd", "in full size", "number 7",
    "part 2", "for the album", "from the archive", "as it is", "!",
)  # fmt: skip
_ADJECTIVE_SHARE = 3 / 8
_SYNONYM_SHARE = 1 / 4


class VariedCaptions:
    """Writes captions; a quarter of them use a synonym of the class, if it has any.

    Building blocks that mention a class or a synonym are not used. A caption that would mention another class is replaced by
    the class name.

    Parameters
    ----------
    names : sequence of str
        Class names.
    synonyms : sequence of sequences of str
        The synonyms of each class.
    """

    def __init__(self, names: Sequence[str], synonyms: Sequence[Sequence[str]]) -> None:
        self._names = names
        self._synonyms = synonyms
        self._index = MentionIndex([*names, *(synonym for each in synonyms for synonym in each)])
        parts = (_FRAMES, _DETERMINERS, _ADJECTIVES, _CLOSINGS)
        self._frames, self._determiners, self._adjectives, self._closings = map(self._neutral, parts)

    def caption(self, label: int, seed: int, uid: str) -> str:
        """A caption for an image of class `label`, determined by the seed, the image's uid and the names of its class."""
        draws = iter(struct.unpack(">8I", hashlib.sha256(f"{seed} {uid}".encode()).digest()))

        def pick(options: Sequence[str]) -> str:
            return str(options[next(draws) % len(options)])

        name, synonyms = self._names[label], self._synonyms[label]
        word = pick(synonyms) if _happens(_SYNONYM_SHARE, next(draws)) and synonyms else name
        adjective = pick(self._adjectives) if _happens(_ADJECTIVE_SHARE, next(draws)) and self._adjectives else ""
        phrase = " ".join(part for part in (pick(self._determiners), adjective, word) if part)
        if phrase.startswith("a ") and phrase[2].lower() in "aeiou":
            phrase = f"an{phrase[1:]}"
        caption = f"{pick(self._frames).format(phrase)} {pick(self._closings)}".strip()
        return caption if self._index.members(caption) == self._index.members(word) else word

    def _neutral(self, parts: Sequence[str]) -> list[str]:
        return [part for part in parts if not self._index.members(part.format(""))]


def _happens(share: float, draw: int) -> bool:
    return draw < share * 2**32
