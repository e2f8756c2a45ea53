"""The figures of the pages that follow from committed records: each function yields text of its page, computed anew."""

from __future__ import annotations

from collections.abc import Iterator
from math import exp

from .photographs import readme, validity
from .records import (
    DEFENSES,
    accuracy,
    asr,
    cell,
    cells,
    hours,
    last,
    machines,
    measured,
    poison,
    retrained,
    runs,
    seconds,
    span,
    table,
    telemetry,
)

ATTACKS = {"BadNet": "badnet", "Blended": "blended", "TDPA": "tdpa", "WaNet": "wanet"}


def reference_results() -> Iterator[str]:
    for label, attack in ATTACKS.items():
        clip, roclip, cleanclip, safeclip = (f"{asr(attack, defense):.1f}" for defense in DEFENSES)
        bold = f"**{safeclip}**" if float(safeclip) > 30 else safeclip
        floor = asr(attack, "clip", metric="asr_floor")
        yield f"| ASR, {label} | {clip} | {roclip} | {cleanclip} | {bold} | {floor:.1f} |"
    for label, evaluator in (("zero-shot", "zero_shot"), ("linear probe", "linear_probe")):
        row = " | ".join(f"{accuracy(evaluator, defense):.1f}" for defense in DEFENSES)
        yield f"| {label}, mean over the attacks | {row} | |"

    poisons, pairs, targets = poison("tdpa")
    yield f"{poisons / pairs:.0%} of the {pairs:,} pairs is poison, and TDPA has {targets} targets."
    fastest = {name: min(seconds(run) for run in runs("reference").values() if run.defense == name) / 60 for name in DEFENSES}
    yield f"takes {fastest['cleanclip']:.0f} (CleanCLIP, which starts from CLIP's) to {fastest['safeclip']:.0f} minutes"

    def above_floor(defense: str) -> list[float]:
        return [asr(attack, defense) - asr(attack, defense, metric="asr_floor") for attack in ATTACKS.values()]

    price = accuracy("zero_shot", "clip") - accuracy("zero_shot", "roclip")
    assert 3 < max(above_floor("roclip")) <= 4
    yield f"**RoCLIP** brings every attack to within 4 points of its floor, and pays the most for it: {price:.0f} points"
    assert max(above_floor("safeclip")[:3]) <= 0.5
    most = max(telemetry("safe_poisons", -1, attack=attack) for attack in ("badnet", "blended", "tdpa"))
    assert most == 1
    yield f"to within half a point of their floors, with at most one of {poisons} poisons in its last safe set."
    left = telemetry("safe_poisons", -1, attack="wanet")
    yield (
        f"{left:.0f} poisons are in the last safe set, {left / poisons:.0%} of them, and these are enough for an ASR of "
        f"{asr('wanet', 'safeclip'):.0f}."
    )
    small, large, auc = first_split()
    yield f"first safe set holds {small}% of the pairs under BadNet and TDPA, and {large}% under the other two"
    yield f"(AUC {auc})"
    colour = [accuracy("zero_shot", "safeclip", attack=attack, task="colour") for attack in ATTACKS.values()]
    small_set, large_set = zero_shot_by_first_split()
    yield f"The small first set gives zero-shot accuracies of {small_set}, the large one {large_set}."
    yield f"The loss is mostly colour ({span(colour)} of 100)"
    first = {attack for attack, machine in machines("reference") if "EPYC" in machine}
    assert first == {"badnet"}
    yield "The records of BadNet are from the first machine, the others from the second"
    (share,) = {f"{value:.0%}" for value in last("safe_share", defense="safeclip", folder="reference-0.1")}
    yield f"Under that recipe SafeCLIP's safe set held {share} of the pairs"


def first_split() -> tuple[str, str, str]:
    """SafeCLIP's first safe set under BadNet and TDPA and under Blended and WaNet, in percent, and its AUC on mismatches."""
    shares = {attack: 100 * telemetry("safe_share", 0, attack=attack) for attack in ATTACKS.values()}
    (small,) = {f"{shares[attack]:.0f}" for attack in ("badnet", "tdpa")}
    aucs = [telemetry("mismatch_auc", 0, attack=attack) for attack in ATTACKS.values()]
    return small, span([shares["blended"], shares["wanet"]]), span(aucs, 2).replace("0.", ".")


def highest_posterior(attack: str, *, folder: str = "reference") -> float:
    """The peak over similarities of the posterior of the upper component in SafeCLIP's first split, in [0, 1]."""
    low, low_std, low_weight, high, high_std = (
        telemetry(f"gmm_{number}", 0, attack=attack, folder=folder)
        for number in ("lower_mean", "lower_std", "lower_weight", "upper_mean", "upper_std")
    )
    at = (high / high_std**2 - low / low_std**2) / (1 / high_std**2 - 1 / low_std**2)

    def density(weight: float, mean: float, std: float) -> float:
        return weight / std * exp(-(((at - mean) / std) ** 2) / 2)

    above = density(1 - low_weight, high, high_std)
    return above / (above + density(low_weight, low, low_std))


def zero_shot_by_first_split() -> tuple[str, str]:
    badnet, blended, tdpa, wanet = (f"{accuracy('zero_shot', 'safeclip', attack=attack):.0f}" for attack in ATTACKS.values())
    return f"{badnet} and {tdpa}", f"{wanet} and {blended}"


def regimes() -> Iterator[str]:
    small, large, auc = first_split()
    small_set, large_set = zero_shot_by_first_split()
    yield f"at the same AUC on planted mismatches ({auc})"
    peaks = {attack: highest_posterior(attack) for attack in ATTACKS.values()}
    yield f"the highest posterior is {span(list(peaks.values()), 2).replace('0.', '.')}, and the published threshold is 0.9"
    yield f"Under Blended and WaNet {large}% of the pairs pass; under BadNet and TDPA none does"
    assert {attack for attack, peak in peaks.items() if peak > 0.9} == {"blended", "wanet"}
    yield f"takes the most similar {small}%, as many as it adds in an epoch"
    passed = telemetry("safe_share", 0, attack="blended", folder="photographs")
    peak = f"{highest_posterior('blended', folder='photographs'):.2f}".removeprefix("0")
    yield f"On photographs under Blended the highest posterior is {peak}, and {passed:.0%} pass."
    undefended = asr("blended", "clip", folder="photographs")
    yield f"Blended at 1% has an ASR of {undefended:.0f} on plain CLIP there"
    yield f"zero-shot accuracy is {small_set} with the small first set, {large_set} with the large one"
    poisons, pairs, _ = poison("wanet")
    left, share = (telemetry(number, -1, attack="wanet") for number in ("safe_poisons", "safe_share"))
    assert 3000 < share * (pairs + poisons) / left < 3500
    yield (
        f"{left:.0f} of {poisons} poisons are in the last safe set of {share:.0%}, fewer than 1 in 3,000 pairs, and the ASR is "
        f"{asr('wanet', 'safeclip'):.0f}."
    )
    assert telemetry("safe_poisons", -1, attack="blended") == 1
    yield "Under Blended one poison is left, and the ASR is at the floor"
    old = [asr("label_consistent", "clip", folder="reference-0.1", seed=seed) for seed in (0, 1, 2)]
    yield f"With the 16,384 pairs of version 0.1 its ASR was {span(old)} on seeds 0 to 2"


def datasheet() -> Iterator[str]:
    yield f"| `results/reference` | {len(runs('reference'))} | {hours(runs('reference').values()):.1f} h;"
    yield f"| `results/photographs` | {len(runs('photographs'))} | {hours(runs('photographs').values()):.1f} h;"
    yield f"| `results/reference-0.1` | {len(runs('reference-0.1'))} | {hours(runs('reference-0.1').values()):.1f} h |"
    again = retrained("suites", "reference-0.1")
    yield f"| `results/suites` | {len(runs('suites'))} | {hours(again):.1f} h for the {len(again)} that are not copies"


def the_paper_on_scenes() -> Iterator[str]:
    all_cells, again = runs("suites"), retrained("suites", "reference-0.1")
    twice = [run for run in again if run.key in runs("reference-0.1")]
    assert (len(all_cells) - len(again), len(twice)) == (12, 4)
    assert 1.8 < hours(again) < 2
    yield f"There are {len(all_cells)} cells. Twelve are records of `results/reference-0.1`; the other {len(again)} were"
    yield "in just under two hours on one core of an AMD EPYC"
    yield "Four of these are in the reference too"
    shares = last("safe_share", defense="safeclip", folder="suites")
    most = [share for share in shares if round(share, 2) == 0.9]
    fewer = [100 * share for share in shares if share not in most]
    yield (
        f"**SafeCLIP's last safe set holds 90% of the pairs in {len(most)} of its {len(shares)} cells**, where it ends at "
        "50 to 60% in the paper."
    )
    assert len(fewer) == 4
    yield f"The other four are schedules of Table 3, whose last safe sets hold {span(fewer)}%."
    yield from attacks_and_utility()
    yield from variants()
    yield from rates_sizes_models()
    yield from costs()


def attacks_and_utility() -> Iterator[str]:
    """Tables 1 and 2."""

    def of(row: str, column: str) -> str:
        return f"{cell(1, row=row, column=column):.1f}"

    falls = {name: f"{of('CLIP', name)} to {of('SafeCLIP', name)}" for name in ("TDPA", "BadNet", "Blended", "WaNet")}
    published = max(cells(1, "published", row="SafeCLIP"))
    genome = {name: cell(1, "published", row="RoCLIP", paper_data="visual_genome", column=name) for name in ("TDPA", "Blended")}
    yield (
        f"| 1 | SafeCLIP stops every attack (ASR at most {published:g}%), RoCLIP all but TDPA on Visual Genome "
        f"({genome['TDPA']:g}%; Blended {genome['Blended']:g}) | "
        f"SafeCLIP: {', '.join(f'{name} {fall}' for name, fall in falls.items())}%; "
        f"RoCLIP: {', '.join(of('RoCLIP', name) for name in falls)}. "
        f"Label-consistent, {of('CLIP', 'Label consistent')} undefended, gets past both "
        f"({of('SafeCLIP', 'Label consistent')}, {of('RoCLIP', 'Label consistent')}) |"
    )
    points = {
        (what, name): [cell(2, what, row=f"{name} / {kind}", column="minus CLIP") for kind in ("zero-shot", "linear probe")]
        for what in ("published", "measured")
        for name in ("SafeCLIP", "RoCLIP")
    }
    (gain, more), (loss, other) = points["published", "SafeCLIP"], points["published", "RoCLIP"]
    (here, probe), (rhere, rprobe) = points["measured", "SafeCLIP"], points["measured", "RoCLIP"]
    yield (
        f"| 2 | SafeCLIP costs no accuracy ({gain:+.1f} zero-shot, {more:+.1f} linear probe), "
        f"RoCLIP {-loss:.1f} and {-other:.1f} points | "
        f"SafeCLIP costs {-here:.1f} and {-probe:.1f} points, RoCLIP {-rhere:.1f} and {-rprobe:.1f} |"
    )


def variants() -> Iterator[str]:
    """Tables 3 to 7: schedules, rates, losses and thresholds of SafeCLIP."""
    without, two = "5 / 0", "5 / 2"
    one = [row for row in table(3).row.unique() if row.endswith("/ 1")]
    published = max(cell(3, "published", row=row) for row in one)
    assert cell(3, row=two) == 0
    yield (
        f"| 3 | without the CLIP epoch at a low rate {cell(3, 'published', row=without):.0f}% of the poisons are in the "
        f"safe set, with two {cell(3, 'published', row=two):.0f}%, with one at most {published:.0f}% | "
        f"{cell(3, row=without):.1f}% without, none with two, at most {max(cell(3, row=row) for row in one):.1f}% with one |"
    )
    assert set(cells(4)) == {0} == set(cells(4, "published"))
    yield "| 4 | learning rates of that epoch from 5e-6 to 5e-5 all work | as published |"
    worse = [value for value in cells(5, "published") if value]
    assert set(cells(5)) == {0}
    assert set(table(5).n_total) == {16}
    high = 100 * table(5).ci_high.max()
    yield f"TDPA comes back ({min(worse):g} to {max(worse):g}%) | 0 of 16 in both, interval 0 to {high:.0f}%"
    pairs, poisons = cells(6, column="safe set"), cells(6, column="poison rate")
    yield f"| the same: {span(pairs)}% of the pairs, {min(poisons):.0f} to {max(poisons):.2f}% poison |"
    rows = ("SafeCLIP / zero-shot", "SafeCLIP, 64 epochs / zero-shot")
    texture = [cell(7, row=row, column="texture") for row in rows]
    tdpa, badnet = (cell(7, row=rows[1], column=name) for name in ("TDPA", "BadNet"))
    yield f"| the same: texture, zero-shot, {span(texture, 1)}%; ASR {tdpa:.0f} and {badnet:.1f}% |"


def rates_sizes_models() -> Iterator[str]:
    """Tables 9, 10, 12 and 13."""
    ten_times = {"group": "BadNet", "column": "0.5%"}
    assert cell(9, **ten_times) == 100
    assert cell(9, "published", **ten_times, row="MSCOCO") == 0
    worst = max(cells(9, "published", column="0.1%"))
    twice = [cell(9, group=name, column="0.1%") for name in ("TDPA", "BadNet")]
    assert max(twice) < 1
    yield f"| 9 | SafeCLIP holds at twice the poison (TDPA on CC1M {worst:g}%), and against BadNet on MSCOCO at ten times"
    yield f"but that is {measured('suites').rate.max():.0%} of the pairs here and {ten_times['column']} there"
    htba, one, every = (cell(10, row=row) for row in ("HTBA", "PBA, all to one", "PBA, all to all"))
    yield f"against HTBA and parallel backdoors | {htba:.1f}%, {one:.1f}% (all to one), {every:.1f}% (all to all) |"
    sizes = ("CC3M", "CC1M", "CC100K")
    shares = ", ".join(f"{cell(12, row=row, column='safe set'):.0f}" for row in sizes)
    rates = [cell(12, row=row, column="poison rate") for row in sizes]
    published = max(cell(12, "published", row=row, column="poison rate") for row in sizes)
    yield (
        f"of which at most {published:.3f}% is poison | {shares}% of the pairs; "
        f"{rates[0]:.0f}, {rates[1]:.2f}, {rates[2]:.2f}% poison, of {cell(12, row='unfiltered', column='poison rate'):.0f}% |"
    )
    vit = {name: cell(13, row="ViT-B/32", column=name) for name in ("TDPA", "BadNet")}
    plain = {name: asr(name.lower(), "clip", folder="suites", model="scenes-vit-8") for name in vit}
    yield (
        f"| 13 | SafeCLIP works for a transformer too | small transformer: "
        f"TDPA {plain['TDPA']:.1f} to {vit['TDPA']:.1f}% (1 of 16), BadNet {plain['BadNet']:.1f} to {vit['BadNet']:.1f} |"
    )


def costs() -> Iterator[str]:
    """Tables 8 and 15, and what the filters keep."""
    rows = (
        "SafeCLIP: unimodal epoch",
        "SafeCLIP: epoch of CLIP and unimodal loss",
        "SafeCLIP: updating the sets",
        "RoCLIP epoch",
    )
    unimodal, mixed, update, roclip = (cell(8, "published", row=row) / 100 for row in rows)
    here = ", ".join(f"{cell(8, row=row) / 100:.2f}" for row in rows)
    yield f"unimodal {unimodal:g}, mixed {mixed:g}, update of the sets {update:g}, RoCLIP {roclip:g} | {here}:"
    filters = ("DeepKNN", "Spectral Signatures", "Activation Clustering")
    own = ("SafeCLIP, 5 unimodal epochs", "SafeCLIP, 1 unimodal epoch")
    five, one = (cell(15, "published", row=row) for row in own)
    yield (
        f"| 15 | SafeCLIP adds {five:.0f}% of training time, or {one:.0f}% with one unimodal epoch; filters "
        f"{span([cell(15, 'published', row=row) for row in filters])}% | "
        f"{cell(15, row=own[0]):.0f}% and {cell(15, row=own[1]):.0f}%; "
        f"filters {span([cell(15, row=row) for row in filters])}%, most of it the second training |"
    )
    poisons, _, _ = poison("tdpa", folder="suites", defense="deepknn")
    names = ("deepknn", "activation_clustering", "spectral_signatures")
    kept = {name: telemetry("safe_poisons", -1, attack="tdpa", defense=name, folder="suites") for name in names}
    through = {name: asr("tdpa", name, folder="suites") for name in names}
    assert kept["deepknn"] == kept["activation_clustering"] == poisons
    assert through["deepknn"] == through["activation_clustering"]
    yield (
        f"ASR {through['deepknn']:.0f}% with Deep k-NN and Activation Clustering, which keep all {poisons} poisons, and "
        f"{through['spectral_signatures']:.0f}% with Spectral Signatures, which keeps {kept['spectral_signatures']:.0f}."
    )


MEASURED = {
    "README.md": readme,
    "docs/validity.md": validity,
    "docs/reference-results.md": reference_results,
    "docs/regimes.md": regimes,
    "docs/datasheet.md": datasheet,
    "docs/the-paper-on-scenes.md": the_paper_on_scenes,
}
