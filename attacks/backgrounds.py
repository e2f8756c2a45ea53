"""Captions of ToxicTextCLIP: selected by a background that fits the target class, recombined and diversified."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from bench.api import AttackContext, Surrogate
from bench.data.eda import STOP_WORDS
from bench.data.mentions import MentionIndex

_BATCH = 1024


def encoded(surrogate: Surrogate, texts: Sequence[str]) -> torch.Tensor:
    """Caption embeddings of unit length, float32 (n, d), computed in batches."""
    return torch.cat([surrogate.encode_captions(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH)])


def class_centres(ctx: AttackContext, surrogate: Surrogate) -> torch.Tensor:
    """The centre of each class, the renormalised mean of its prompt embeddings: float32 (classes, d)."""
    prompts = ctx.bundle.vocabulary.prompts()
    embedded = encoded(surrogate, [prompt for each in prompts for prompt in each])
    return F.normalize(embedded.unflatten(0, (len(prompts), -1)).mean(dim=1), dim=-1)


def without(caption: str, name: str) -> str:
    """A caption without its whole-word mentions of the class `name`."""
    words, gone = caption.split(), name.split()
    mentions = MentionIndex([name])
    for start in reversed(range(len(words))):
        if mentions.members(" ".join(words[start : start + len(gone)])):
            del words[start : start + len(gone)]
    return " ".join(words)


def backgrounds(
    captions: Sequence[str], name: str, images: torch.Tensor, centre: torch.Tensor, surrogate: Surrogate, eta: int
) -> list[str]:
    """The background text of each caption: S* = argmax sim(s, image) - sim(s, centre), found greedily.

    s starts as the caption without the class name. Up to `eta` times the word is deleted whose deletion raises the objective
    most, as long as one does.

    Parameters
    ----------
    captions : sequence of n str
    name : str
        The class.
    images : float32 (n, d)
        Embeddings of their images, of unit length.
    centre : float32 (d,)
        Centre of the class.
    surrogate : Surrogate
        The model that embeds the texts.
    eta : int
        Maximum number of deleted words besides the class name.
    """
    found = [without(caption, name) for caption in captions]
    wanted = images - centre
    values = (encoded(surrogate, found) * wanted).sum(dim=1)
    active = list(range(len(found)))
    for _ in range(eta):
        tried = [
            (row, " ".join(words[:place] + words[place + 1 :]))
            for row in active
            if len(words := found[row].split()) > 1
            for place in range(len(words))
        ]
        if not tried:
            break
        rows = torch.tensor([row for row, _ in tried])
        gained = (encoded(surrogate, [text for _, text in tried]) * wanted[rows]).sum(dim=1)
        active = []
        for place in gained.argsort(descending=True, stable=True).tolist():
            row, text = tried[place]
            if row not in active and gained[place] > values[row]:
                found[row], values[row] = text, gained[place]
                active.append(row)
    return found


def selected(
    ctx: AttackContext, surrogate: Surrogate, rows: Sequence[int], target: int, centre: torch.Tensor, eta: int, limit: int
) -> list[str]:
    """Distinct captions of the training pairs `rows`, ranked by the similarity of their background text to the class centre.

    Only the `limit` captions that, without the class name, are most similar to the centre are ranked.
    """
    train, name = ctx.bundle.train, ctx.bundle.vocabulary.names[target]
    first = {train.captions[row]: row for row in reversed(rows)}
    captions = [caption for caption in first if without(caption, name)]
    rough = encoded(surrogate, [without(caption, name) for caption in captions]) @ centre
    captions = [captions[place] for place in rough.argsort(descending=True, stable=True)[:limit].tolist()]
    images = train.images.load(np.array([first[caption] for caption in captions])).float() / 255
    seen = torch.cat([surrogate.encode_image(part).detach() for part in images.split(_BATCH)])
    fitting = backgrounds(captions, name, seen, centre, surrogate, eta)
    order = (encoded(surrogate, fitting) @ centre).argsort(descending=True, stable=True)
    return [captions[place] for place in order.tolist()]


def recombined(captions: Sequence[str], name: str) -> list[str]:
    """Distinct texts of the head of one caption, up to and including the class name, and the tail of another."""
    mentions = MentionIndex([name])
    heads, tails = [], []
    for caption in captions:
        words = caption.split()
        ends = [end for end in range(1, len(words) + 1) if mentions.members(" ".join(words[:end]))]
        if ends:
            heads.append(words[: ends[0]])
            tails.append(words[ends[0] :])
    return list(dict.fromkeys(" ".join(head + tail) for head in heads for tail in tails))


def diverse(captions: Sequence[str], count: int) -> list[str]:
    """`count` captions: the first, then repeatedly the one least similar to those chosen, by Jaccard similarity of words.

    Stop words do not count. With fewer captions than `count` they repeat.
    """
    bags = [frozenset(caption.casefold().split()) - STOP_WORDS for caption in captions]
    nearest = np.zeros(len(captions))
    chosen: list[int] = [0]
    while len(chosen) < min(count, len(captions)):
        last = bags[chosen[-1]]
        nearest = np.maximum(nearest, [len(bag & last) / max(1, len(bag | last)) for bag in bags])
        nearest[chosen] = np.inf
        chosen.append(int(nearest.argmin()))
    return [captions[chosen[place % len(chosen)]] for place in range(count)]
