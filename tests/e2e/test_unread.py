"""What a command says where poison is longer than the model's context."""

from pathlib import Path

from tests.data.csv_maker import HEADER, make, write

from .conftest import SMALL, Bench

SHOUTING = '''
from bench.attacks.toxic_text_backdoor import ToxicTextWord
from bench.registry import register_attack

@register_attack("shouting")
class Shouting(ToxicTextWord):
    """A trigger behind any caption, read or not (Nobody 2024)."""

    def _with_room(self, ctx, captions):
        return [True] * len(captions)
'''


def test_a_plugin_whose_trigger_is_cut_is_refused_before_it_trains(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "shouting.py").write_text(SHOUTING)
    asked = ("--plugin", tmp_path / "shouting.py", "--attack", "shouting", "--set", "attack.rate=0.05")
    trigger = ("--set", "attack.shouting.trigger=hear me out on this one")
    done = bench("run", *SMALL, *asked, *trigger, "--out", tmp_path / "out")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("bench: shouting: scenes-small reads 16 tokens, and ")
    assert done.err.count("\n") == 1
    assert bench("run", *SMALL, *asked, *trigger, "--model", "small-64", "--dry-run", "--out", tmp_path / "out").code == 0


def test_a_run_tells_of_targets_that_the_model_does_not_read(bench: Bench, tmp_path: Path) -> None:
    folder = make(tmp_path / "data", 60)
    names = ("goldfish", "banana", "lemon")
    write(folder / "train.csv", [HEADER, *([f"images/{row}.png", f"{'very ' * 14}big {names[row % 3]}"] for row in range(60))])
    (tmp_path / "classes.txt").write_text("\n".join(names))
    asked = ("--data", f"csv:{folder}", "--set", f"data.classes={tmp_path / 'classes.txt'}", "--recipe", "small")
    asked += ("--attack", "badnet", "--set", "attack.rate=0.03", "--set", "attack.min_captions=1", "--dry-run")
    done = bench("run", *asked, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert "badnet: scenes-small reads 16 tokens, and 2 of 2 captions name their target only after these" in done.out
    assert "only after these" not in bench("run", *asked, "--model", "small-64", "--out", tmp_path / "out").out
