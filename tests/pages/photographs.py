"""The figures of docs/validity.md, from results/reference and results/photographs."""

from __future__ import annotations

from collections.abc import Iterator

from bench.benchmarks.validity import section_of, table

from .records import DEFENSES, RESULTS, accuracy, asr, measured, poison, telemetry

ATTACKS = {"badnet": "BadNet", "blended": "Blended", "tdpa": "TDPA", "wanet": "WaNet"}
FOLDERS = {"`scenes`": "reference", "photographs": "photographs"}
NAMES = {"zero-shot": "zero_shot", "linear probe": "linear_probe"}


def validity() -> Iterator[str]:
    rows, same = verdicts()
    yield " ".join(rows)
    yield f"Of 12 verdicts {same} are the same on photographs"
    yield f"On photographs plain CLIP has {listed('asr')}, over floors of {listed('asr_floor')}."
    for label, folder in FOLDERS.items():
        for name, evaluator in NAMES.items():
            values = [accuracy(evaluator, each, folder=folder) for each in DEFENSES]
            yield f"| {label}, {name} | {' | '.join(f'{value:.1f}' for value in values)} |"
    yield from splits()
    yield from controls()


def readme() -> Iterator[str]:
    yield f"under the same rule {12 - verdicts()[1]} of its 12 verdicts are different ones"


def verdicts() -> tuple[list[str], int]:
    """The table, and how many of the 12 verdicts are the same."""
    *rows, _, last = table(*(section_of(RESULTS / folder) for folder in FOLDERS.values()))
    same = int(last.split()[0])
    assert last == f"{same} of 12 verdicts are the same."
    return rows, same


def listed(metric: str) -> str:
    """Plain CLIP on photographs, in the order of the attacks."""
    *others, last = (f"{asr(each, 'clip', metric=metric, folder='photographs'):.1f}" for each in ATTACKS)
    return f"{', '.join(others)} and {last}"


def splits() -> Iterator[str]:
    """SafeCLIP's safe sets on photographs by attack, and the poisons in the last one."""

    def row(name: str, number: str, at: int, form: str) -> str:
        values = (telemetry(number, at, attack=each, folder="photographs") for each in ATTACKS)
        return f"| {name} | {' | '.join(form.format(value).replace('0.', '.', form == '{:.2f}') for value in values)} |"

    yield f"| | {' | '.join(ATTACKS.values())} |"
    yield row("AUC", "mismatch_auc", 0, "{:.2f}")
    yield row("first safe set", "safe_share", 0, "{:.0%}")
    yield row("last safe set", "safe_share", -1, "{:.0%}")
    yield row("poisons in it", "safe_poisons", -1, "{:.0f}")
    accuracies = (accuracy("zero_shot", "safeclip", folder="photographs", attack=each) for each in ATTACKS)
    yield f"| zero-shot | {' | '.join(f'{value:.1f}' for value in accuracies)} |"
    passed = telemetry("safe_share", 0, attack="blended", folder="photographs")
    yield f"only {passed:.0%} of the pairs pass the published threshold"
    left = {
        (folder, attack): telemetry("safe_poisons", -1, attack=attack, folder=folder)
        for folder in FOLDERS.values()
        for attack in ATTACKS
    }
    for (folder, attack), poisons in left.items():
        above = asr(attack, "safeclip", folder=folder) - asr(attack, "safeclip", metric="asr_floor", folder=folder)
        assert poisons > 1 or above < 1
    there, here = poison("wanet")[0], poison("badnet", folder="photographs")[0]
    yield (
        f"on `scenes` {left['reference', 'wanet']:.0f} of {there} are enough for WaNet, on photographs "
        f"{left['photographs', 'badnet']:.0f} of {here} are not enough for BadNet."
    )


def controls() -> Iterator[str]:
    """SafeCLIP under BadNet on photographs beside its controls."""
    for name, evaluator in NAMES.items():
        steps, size = (control(evaluator, each) for each in ("control_steps", "control_size"))
        clip, safeclip = (accuracy(evaluator, each, folder="photographs", attack="badnet") for each in ("clip", "safeclip"))
        yield f"| {name} | {clip:.1f} | {steps:.1f} | {size:.1f} | {safeclip:.1f} |"
    steps, size = (control("asr", each) for each in ("control_steps", "control_size"))
    clip, safeclip = (asr("badnet", each, folder="photographs") for each in ("clip", "safeclip"))
    yield f"| ASR | {clip:.1f} | {steps:.1f} | {size:.1f} | {safeclip:.1f} |"


def control(evaluator: str, name: str) -> float:
    """A control of SafeCLIP under BadNet on photographs."""
    rows = measured("photographs").query("evaluator == @evaluator and defense == @name and metric in ['asr', 'top1']")
    (value,) = rows.value
    return 100 * float(value)
