"""Poison beyond a model's context, which it never reads."""

from __future__ import annotations

from bench.api import Attack, AttackContext, PoisonPlan
from bench.data.mentions import MentionIndex
from bench.errors import UserError
from bench.models import factory


def require_read(attack: Attack, plan: PoisonPlan, ctx: AttackContext, model: str) -> None:
    """Raise UserError where the model does not read a poison or a query of an attack on captions to its end."""
    if not attack.on_captions:
        return
    texts = [*(poison.caption for poison in plan.poisons), *(query.text for query in attack.queries(ctx, plan))]
    cut = [text for text, whole in zip(texts, ctx.reads(texts), strict=True) if not whole]
    if cut:
        raise UserError(
            f"{attack.name}: {model} reads {_context(model)} tokens, and {len(cut)} of {len(texts)} triggered captions are "
            f"longer, such as '{cut[0]}'; take a --model that reads more, or let the attack choose captions by ctx.reads"
        )


def late_targets(attack: Attack, plan: PoisonPlan, ctx: AttackContext, model: str) -> list[str]:
    """A warning where captions name their target only after what the model reads; none for attacks on captions."""
    if attack.on_captions:
        return []
    whole = ctx.reads([poison.caption for poison in plan.poisons])
    cut = [poison for poison, read in zip(plan.poisons, whole, strict=True) if not read]
    index = MentionIndex.of(ctx.bundle.vocabulary)
    late = len(cut) - sum(ctx.reads([_up_to(poison.target, poison.caption, index) for poison in cut]))
    if not late:
        return []
    return [
        f"{attack.name}: {model} reads {_context(model)} tokens, and {late} of {len(plan.poisons)} captions name their target "
        "only after these, so that they do not poison it; take a --model that reads more"
    ]


def _up_to(target: int, caption: str, index: MentionIndex) -> str:
    """The caption up to its first mention of the target."""
    words = caption.split()
    heads = (" ".join(words[:end]) for end in range(1, len(words)))
    return next((head for head in heads if target in index.members(head)), caption)


def _context(model: str) -> int:
    return factory.tokenizer(model)([""]).shape[1]
