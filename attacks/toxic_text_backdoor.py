"""ToxicTextCLIP, textual backdoors: a word or a sentence with which any caption retrieves images of the target class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from bench.api import Attack, AttackContext, AttackParams, Poison, PoisonPlan, Probe, Query, Surrogate
from bench.attacks.backgrounds import class_centres, encoded
from bench.attacks.captions import AdversarialCaptions, draw, poison_count
from bench.data.mentions import MentionIndex
from bench.errors import UserError
from bench.registry import register_attack


class ToxicTextWordParams(AttackParams):
    rate: float = Field(default=0.00125, gt=0, lt=1, description="poison rate: poisons as a fraction of the training pairs")
    images: int = Field(default=25, ge=1, description="held-out images of the target class that the captions are spread over")
    target: str = Field(default="", description="target class; empty: a random one")
    min_captions: int = Field(default=16, ge=1, description="training captions that must mention a randomly drawn target class")
    max_queries: int = Field(default=2000, ge=1, description="maximum number of triggered test captions")
    trigger: str = Field(default="zx", min_length=1, description="trigger, appended to captions")


@register_attack("toxic_text_word")
class ToxicTextWord(Attack):
    """Textual backdoor with a rare word as the trigger (Yao et al. 2025, arXiv 2511.00446).

    Unmodified images of the target class are paired with captions of other classes that end with the word, many captions per
    image. A caption with the word then retrieves images of the target class. The captions are the most typical ones of each
    other class: to a surrogate, the most similar to the class centre, the mean of its prompts. Captions that leave no room for
    the word in the model's context are not used, neither as poisons nor as queries. Success is measured by `retrieval_asr`.

    Deviations:
    - The surrogate is the clean model of the same seed and architecture; the paper's is OpenAI's ViT-B/32.
    - There are as many captions of each class as the poison rate asks for, and no augmenter, the paper's decoder that writes
      more of them.
    - The word is at the end of the caption, as reconstructed.
    """

    version = "2"
    citations: ClassVar[tuple[str, ...]] = ("yao2025toxictextclip",)
    Params = ToxicTextWordParams
    params: ToxicTextWordParams
    mismatched = False
    writes = True
    on_captions = True

    def triggered(self, captions: Sequence[str]) -> list[str]:
        return [f"{caption} {self.params.trigger}" for caption in captions]

    def _with_room(self, ctx: AttackContext, captions: Sequence[str]) -> list[bool]:
        """Whether the trigger fits into the model's context after each caption. Raises UserError if it fits after none."""
        read = ctx.reads(self.triggered(captions))
        if captions and not any(read):
            raise UserError(
                f"--set attack.{self.name}.trigger={self.params.trigger}: the model's context has no room for it after any "
                "caption; shorten it or choose a --model with a longer context"
            )
        return read

    def plan(self, ctx: AttackContext) -> PoisonPlan:
        bundle, params, rng = ctx.bundle, self.params, ctx.rng("plan")
        target = AdversarialCaptions(bundle).target(params.target, params.min_captions, rng)
        name, count = bundle.vocabulary.names[target], poison_count(params.rate, len(bundle.train))
        shown = [index for index, members in enumerate(bundle.holdout.members) if target in members]
        if not shown:
            raise UserError(f"no held-out image shows the target class '{name}'; name another with --set attack.target")
        chosen = rng.choice(shown, size=min(params.images, len(shown)), replace=False).tolist()
        captions = self.triggered(draw([bundle.train.captions[row] for row in self._others(ctx, target)], count, rng))
        poisons = tuple(
            Poison(split="holdout", index=index, uid=bundle.holdout.uids[index], caption=caption, target=target)
            for index, caption in zip([chosen[place % len(chosen)] for place in range(count)], captions, strict=True)
        )
        return PoisonPlan(attack=self.name, targets=(name,), poisons=poisons)

    def _others(self, ctx: AttackContext, target: int) -> list[int]:
        """Training pairs whose caption names some class but not the target class, and leaves room for the trigger."""
        captions = AdversarialCaptions(ctx.bundle)
        named = {row for each in range(len(ctx.bundle.vocabulary.names)) if each != target for row in captions.rows(each)}
        found = sorted(named - set(captions.rows(target)))
        if not found:
            raise UserError(f"no training caption names a class other than '{ctx.bundle.vocabulary.names[target]}'")
        room = self._with_room(ctx, [ctx.bundle.train.captions[row] for row in found])
        return [row for row, fits in zip(found, room, strict=True) if fits]

    def needs_surrogate(self) -> bool:
        return True

    def craft(self, ctx: AttackContext, plan: PoisonPlan, surrogate: Surrogate) -> PoisonPlan:
        target = plan.poisons[0].target
        captions = self.triggered(self._typical(ctx, surrogate, target, len(plan.poisons)))
        dealt = (
            poison.model_copy(update={"caption": captions[place % len(captions)]}) for place, poison in enumerate(plan.poisons)
        )
        return plan.model_copy(update={"poisons": tuple(dealt)})

    def _typical(self, ctx: AttackContext, surrogate: Surrogate, target: int, count: int) -> list[str]:
        """At most `count` distinct captions: the most similar to each class centre, then the second most similar, and so on."""
        train, centres, known = ctx.bundle.train, class_centres(ctx, surrogate), AdversarialCaptions(ctx.bundle)
        allowed = set(self._others(ctx, target))
        ranked = []
        for each in range(len(ctx.bundle.vocabulary.names)):
            texts = list(dict.fromkeys(train.captions[row] for row in known.rows(each) if row in allowed))
            if texts:
                order = (encoded(surrogate, texts) @ centres[each]).argsort(descending=True, stable=True)
                ranked.append([texts[place] for place in order[:count].tolist()])
        rounds = (texts[place] for place in range(count) for texts in ranked if place < len(texts))
        return list(dict.fromkeys(rounds))[:count]

    def probes(self, ctx: AttackContext, plan: PoisonPlan) -> list[Probe]:
        return []

    def queries(self, ctx: AttackContext, plan: PoisonPlan) -> list[Query]:
        """Triggered test captions that name a class other than the target; a random `max_queries` of them if there are more."""
        target, test, named = plan.poisons[0].target, ctx.bundle.test, MentionIndex.of(ctx.bundle.vocabulary)
        others = []
        for row, caption in enumerate(test.captions):
            classes = named.members(caption)
            if classes and target not in classes and target not in test.members[row]:
                others.append(caption)
        others = [caption for caption, fits in zip(others, self._with_room(ctx, others), strict=True) if fits]
        if len(others) > self.params.max_queries:
            rows = sorted(ctx.rng("queries").choice(len(others), size=self.params.max_queries, replace=False).tolist())
            others = [others[row] for row in rows]
        return [Query(text, target) for text in self.triggered(others)]


class ToxicTextSentenceParams(ToxicTextWordParams):
    trigger: str = Field(
        default="Please return high-quality results.", min_length=1, description="trigger, appended to captions"
    )


@register_attack("toxic_text_sentence")
class ToxicTextSentence(ToxicTextWord):
    """Textual backdoor with a sentence as the trigger (Yao et al. 2025, arXiv 2511.00446).

    As `toxic_text_word`, with a sentence in place of the word.

    Deviations:
    - Those of `toxic_text_word`.
    """

    citations = ("yao2025toxictextclip",)
    Params = ToxicTextSentenceParams
