"""What captions say that images show."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from bench.api.data import DatasetBundle
from bench.api.defense import Elements
from bench.data.mentions import MentionIndex


def elements(captions: Sequence[str], bundle: DatasetBundle, tokens: Callable[[Sequence[str]], torch.Tensor]) -> Elements:
    """The elements of a data set that captions mention, by name or synonym.

    `tokens` gives tokens of texts, negative where training does not know them; elements with such tokens are left out.
    """
    names = bundle.elements or bundle.vocabulary.names
    known = dict(zip(bundle.vocabulary.names, bundle.vocabulary.synonyms, strict=False))
    index = MentionIndex(names, [(*known.get(name, ()), *bundle.synonyms.get(name, ())) for name in names])
    texts = tokens(names)
    readable = {*torch.nonzero((texts >= 0).all(dim=1))[:, 0].tolist()}
    mentions = [readable.intersection(index.members(caption)) for caption in captions]
    used = sorted(set().union(*mentions))
    row = {element: place for place, element in enumerate(used)}
    mentioned = torch.full((len(mentions), max(map(len, mentions), default=0)), -1)
    for pair, found in enumerate(mentions):
        mentioned[pair, : len(found)] = torch.tensor(sorted(row[element] for element in found), dtype=torch.int64)
    return Elements(texts[used], mentioned)
