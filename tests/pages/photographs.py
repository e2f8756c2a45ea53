"""The figures of docs/validity.md, from results/reference and results/photographs."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from bench.benchmarks.validity import section_of, table

from .records import DEFENSES, RESULTS, accuracy, asr, measured, poison, span, telemetry


def validity() -> Iterator[str]:
    folders = ("reference", "photographs")
    *rows, _, _ = table(*(section_of(RESULTS / folder) for folder in folders))
    yield " ".join(rows)
    attacks = ("badnet", "tdpa")
    badnet, tdpa = (asr(attack, "clip", metric="asr_floor", folder="photographs") for attack in attacks)
    yield f"The floors of photographs are {badnet:.1f} for BadNet and {tdpa:.1f} for TDPA"
    for label, folder in zip(("`scenes`", "photographs"), folders, strict=True):
        for name, evaluator in (("zero-shot", "zero_shot"), ("linear probe", "linear_probe")):
            values = [fmean(accuracy(evaluator, each, folder=folder, attack=attack) for attack in attacks) for each in DEFENSES]
            yield f"| {label}, {name} | {' | '.join(f'{value:.1f}' for value in values)} |"
    here, there = (
        fmean(
            accuracy("zero_shot", "clip", folder=folder, attack=attack)
            - accuracy("zero_shot", "safeclip", folder=folder, attack=attack)
            for attack in attacks
        )
        for folder in folders
    )
    yield f"SafeCLIP costs {here:.0f} points of zero-shot accuracy on `scenes` and {there:.0f} on photographs"
    for name, evaluator in (("zero-shot", "zero_shot"), ("linear probe", "linear_probe")):
        steps, size = (control(evaluator, each) for each in ("control_steps", "control_size"))
        clip, safeclip = (accuracy(evaluator, each, folder="photographs", attack="badnet") for each in ("clip", "safeclip"))
        yield f"| {name} | {clip:.1f} | {steps:.1f} | {size:.1f} | {safeclip:.1f} |"
    steps, size = (control("asr", each) for each in ("control_steps", "control_size"))
    clip, safeclip = (asr("badnet", each, folder="photographs") for each in ("clip", "safeclip"))
    yield f"| ASR | {clip:.1f} | {steps:.1f} | {size:.1f} | {safeclip:.1f} |"
    shares = [100 * telemetry("safe_share", at, attack=each, folder="photographs") for at in (0, -1) for each in attacks]
    left = [telemetry("safe_poisons", -1, attack=each, folder="photographs") for each in attacks]
    aucs = {f"{telemetry('mismatch_auc', 0, attack=each, folder='photographs'):.2f}" for each in attacks}
    poisons, _, _ = poison("badnet", folder="photographs")
    yield (
        f"first safe set holds {shares[0]:.0f}% of the pairs under BadNet and {shares[1]:.0f}% under TDPA, at an AUC on "
        f"planted mismatches of {aucs.pop().removeprefix('0')}; the last holds {shares[2]:.0f}% and {shares[3]:.0f}%, with "
        f"{left[0]:.0f} and {left[1]:.0f} of the {poisons} poisons."
    )
    assert not aucs
    here = span([telemetry("mismatch_auc", 0, attack=each) for each in attacks], 2).replace("0.", ".")
    yield f"On `scenes` the AUC is {here}, and no poison is left"
    assert max(telemetry("safe_poisons", -1, attack=each) for each in attacks) == 0


def control(evaluator: str, name: str) -> float:
    """A control of SafeCLIP under BadNet on photographs."""
    rows = measured("photographs").query("evaluator == @evaluator and defense == @name and metric in ['asr', 'top1']")
    (value,) = rows.value
    return 100 * float(value)
