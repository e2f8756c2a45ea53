from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from defense_fakes import FakeEncoder, batch, train_setup
from loss_formulas import Rows, dot, eq1, one_way

from bench.defenses import cleanerclip
from bench.defenses.cleanerclip import CleanerCLIP, CleanerCLIPParams
from bench.defenses.subtexts import counterfactuals, subtexts

START, END = 90, 99


def _tokens(rng: np.random.Generator, n: int = 40, length: int = 9) -> torch.Tensor:
    """Rows of 0 to length - 2 words, each with words of its own."""
    rows = []
    for row in range(n):
        words = [int(word) for word in rng.integers(1, 89, size=row % (length - 1))]
        rows.append([START, *words, END, *[0] * (length - 2 - len(words))])
    return torch.tensor(rows)


def _words(row: list[int]) -> list[int]:
    end = row.index(END)
    assert row[0] == START
    assert not any(row[end + 1 :])
    return row[1:end]


def test_subtexts_are_runs_of_half_of_the_words() -> None:
    tokens = _tokens(np.random.default_rng(0))
    starts = set()
    for _ in range(30):
        for part, whole in zip(subtexts(tokens).tolist(), tokens.tolist(), strict=True):
            found, words = _words(part), _words(whole)
            runs = [words[start : start + math.ceil(len(words) / 2)] for start in range(len(words) // 2 + 1)]
            assert found in runs
            if len(words) == 7:
                starts.add(runs.index(found))
    assert starts == {0, 1, 2, 3}


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_counterfactuals_take_words_of_the_caption_before(share: float) -> None:
    tokens = _tokens(np.random.default_rng(1), 800)
    changed = total = 0
    found, given = counterfactuals(tokens, share).tolist(), tokens.tolist()
    for row, (new, old) in enumerate(zip(found, given, strict=True)):
        before = _words(given[row - 1])
        if not before:
            continue
        for one, other in zip(_words(new), _words(old), strict=True):
            assert one == other or one in before
            changed, total = changed + (one != other), total + 1
    assert changed / total == pytest.approx(share, abs=0.05)


def _against(anchors: Rows, parts: Rows, wrong: Rows, tau: float) -> float:
    total = 0.0
    for i, anchor in enumerate(anchors):
        below = math.fsum(math.exp(dot(anchor, each) / tau) for each in [*parts, *wrong])
        total -= math.log(math.exp(dot(anchor, parts[i]) / tau) / below)
    return total / len(anchors)


@pytest.mark.parametrize(("weight", "alignment"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (2.0, 3.0)])
def test_loss_against_the_formula(monkeypatch: pytest.MonkeyPatch, weight: float, alignment: float) -> None:
    monkeypatch.setattr(cleanerclip, "subtexts", lambda tokens: tokens + 7)
    monkeypatch.setattr(cleanerclip, "counterfactuals", lambda tokens, share: (tokens * 3) % 17)
    defense = CleanerCLIP(CleanerCLIPParams(weight=weight, alignment=alignment), train_setup())
    encoder, views, tau = FakeEncoder(), batch(5), 0.1
    with torch.no_grad():
        images, augmented = (encoder.encode_image(view).tolist() for view in views.images)
        texts, other_texts = (encoder.encode_text(view).tolist() for view in views.texts)
        parts, wrong = (encoder.encode_text(each).tolist() for each in (views.texts[0] + 7, (views.texts[0] * 3) % 17))
    expected = eq1(images, texts, tau) + weight * (one_way(images, augmented, tau) + one_way(texts, other_texts, tau)) / 2
    expected += alignment * (_against(images, parts, wrong, tau) + _against(texts, parts, wrong, tau)) / 2
    assert defense.loss(views, encoder, defense.phases(0)[0]).item() == pytest.approx(expected, rel=1e-4)
