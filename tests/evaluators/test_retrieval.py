from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from evaluator_fakes import NAMES, FakeContext, Points, bundle

from bench.api import Images, Pairs, Params, Probe, Query
from bench.evaluators.ranking import AT, best_ranks
from bench.evaluators.retrieval import Retrieval
from bench.evaluators.retrieval_asr import RetrievalASR

CAT, DOG, OWL = range(3)


@dataclass
class Embeddings:
    """Vectors of captions by their text; images are their own."""

    texts: dict[str, torch.Tensor]

    def image_features(self, images: Images) -> torch.Tensor:
        assert isinstance(images, Points)
        return images.features

    def text_features(self, captions: Sequence[str]) -> torch.Tensor:
        return torch.stack([self.texts[caption] for caption in captions])


def _context(
    captions: Sequence[str],
    images: torch.Tensor,
    texts: dict[str, torch.Tensor],
    members: Sequence[tuple[int, ...]] | None = None,
    **more: object,
) -> FakeContext:
    named = [tuple(index for index, name in enumerate(NAMES) if name in caption.split()) for caption in captions]
    members = list(members or named)
    world = bundle(test=members)
    pairs = Pairs([str(row) for row in range(len(captions))], list(captions), Points(images), members)
    return FakeContext(
        bundle=type(world)(**{**world.__dict__, "test": pairs}),
        model=Embeddings(texts),  # type: ignore[arg-type]
        **more,  # type: ignore[arg-type]
    )


def _measured(evaluator: Retrieval | RetrievalASR, ctx: FakeContext) -> dict[tuple[str, str], tuple[float, int]]:
    found = evaluator.evaluate(ctx)
    return {(each.metric, each.task): (each.value, each.n) for each in found}


def _brute(similarity: np.ndarray, right: np.ndarray, k: int) -> float:
    """Sorted worst case first: of equal similarities the wrong answers."""
    hits = []
    for scores, answers in zip(similarity, right, strict=True):
        order = sorted(range(len(scores)), key=lambda item: (-scores[item], answers[item]))
        hits.append(any(answers[item] for item in order[:k]))
    return float(np.mean(hits))


@pytest.mark.parametrize("seed", range(5))
def test_recall_against_sorting(seed: int) -> None:
    """Whole numbers make ties, and repeated captions several right answers."""
    rng = np.random.default_rng(seed)
    captions = [f"caption {number}" for number in rng.integers(12, size=40)]
    texts = {text: torch.from_numpy(rng.integers(-1, 2, size=4)).float() for text in captions}
    images = torch.from_numpy(rng.integers(-1, 2, size=(40, 4))).float()
    ctx = _context(captions, images, texts)
    found = _measured(Retrieval(Params()), ctx)
    assert {(kept.task, k): np.mean(kept.place < k) for kept in ctx.kept for k in AT} == {  # type: ignore[operator]
        (task, int(metric.rpartition("_")[2])): value for (metric, task), (value, _) in found.items()
    }
    similarity = np.array([[float(texts[caption] @ image) for image in images] for caption in captions])
    right = np.array([[one == other for other in captions] for one in captions])
    for k in AT:
        assert found[f"recall_at_{k}", "text_to_image"] == (pytest.approx(_brute(similarity, right, k)), 40)
        assert found[f"recall_at_{k}", "image_to_text"] == (pytest.approx(_brute(similarity.T, right, k)), 40)


def test_a_perfect_model_and_one_that_embeds_all_alike() -> None:
    captions = [f"caption {number}" for number in range(12)]
    perfect = dict(zip(captions, torch.eye(12), strict=True))
    assert set(_measured(Retrieval(Params()), _context(captions, torch.eye(12), perfect)).values()) == {(1.0, 12)}
    alike = dict.fromkeys(captions, torch.ones(3))
    assert set(_measured(Retrieval(Params()), _context(captions, torch.ones(12, 3), alike)).values()) == {(0.0, 12)}


def test_a_query_without_a_right_answer_ranks_last() -> None:
    right = torch.tensor([[False, False], [True, False]])
    assert best_ranks(torch.eye(2), torch.eye(2), lambda rows: right[rows]).tolist() == [2, 1]


def test_hits_of_images_are_captions_that_name_the_class_and_of_texts_images_that_show_it() -> None:
    captions = ["a cat", "a dog", "a thing", "a dog"]
    axes = torch.eye(4)
    texts = {"a cat": axes[0], "a dog": axes[1], "a thing": axes[2], "zx thing": 0.9 * axes[1] + 0.1 * axes[0], "owl": axes[3]}
    probes = [Probe("test", 2, CAT, {}), Probe("test", 3, CAT, {}), Probe("test", 0, OWL, {})]
    queries = [Query("zx thing", DOG), Query("a thing", CAT), Query("owl", OWL)]
    pictures = Points(torch.stack([axes[0], axes[2] + 0.5 * axes[1], axes[0]]))
    clean = Embeddings({**texts, "zx thing": axes[2]})
    shown = [(CAT,), (DOG,), (CAT,), (DOG,)]
    ctx = _context(captions, axes, texts, shown, probes=probes, queries=queries, pictures=pictures, clean=clean)
    found = _measured(RetrievalASR(Params()), ctx)
    assert found["hit_at_1", "image_to_text"] == (1 / 2, 2), (
        "nothing in the gallery names the owl, so that its query is left out"
    )
    assert found["hit_at_5", "image_to_text"] == (1.0, 2)
    assert found["hit_at_1", "text_to_image"] == (1.0, 2), "an image may show a class that its caption does not name"
    assert found["hit_at_1_floor", "text_to_image"] == (1 / 2, 2)
    images, queries_kept = ctx.kept
    assert (images.task, images.uids, images.groups) == ("image_to_text", ("2", "3"), ("all", "all"))
    assert (queries_kept.task, queries_kept.uids) == ("text_to_image", ("query/0", "query/1"))
    assert [NAMES[code] for code in queries_kept.target] == ["dog", "cat"]  # type: ignore[union-attr]
    for kept in ctx.kept:
        for k in AT:
            assert found[f"hit_at_{k}", kept.task] == (np.mean(kept.place < k), len(kept))  # type: ignore[operator]
            assert found[f"hit_at_{k}_floor", kept.task] == (np.mean(kept.place_clean < k), len(kept))  # type: ignore[operator]


def test_without_queries_there_is_one_task() -> None:
    ctx = _context(["a cat"], torch.eye(1), {"a cat": torch.ones(1)}, probes=[Probe("test", 0, CAT, {})])
    ctx.pictures, ctx.clean = Points(torch.ones(1, 1)), ctx.model  # type: ignore[assignment]
    assert {task for _, task in _measured(RetrievalASR(Params()), ctx)} == {"image_to_text"}
