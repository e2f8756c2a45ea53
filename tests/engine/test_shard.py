from collections import Counter

import pytest

from bench.errors import UserError
from bench.matrix.shard import Shard

from .small import small_matrix

DEFENSES = ("clip", "cleanclip", "safeclip")


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "1/0", "a/b", "-1/3", "1/3/5", "1.0/3"])
def test_bad_shards(text: str) -> None:
    with pytest.raises(UserError, match=r"expected i/n with i from 1 to n"):
        Shard.parse(text)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 11])
def test_shards_share_every_cell_out(registries: None, count: int) -> None:
    matrices = [small_matrix(attacks=["badnet", "tdpa"], defenses=DEFENSES), small_matrix(attacks=["none"], seeds=[3])]
    everything = [cell.key for matrix in matrices for cell in matrix.cells]
    taken: Counter[str] = Counter()
    for number in range(1, count + 1):
        kept = [cell for matrix in Shard(number, count).of(matrices) for cell in matrix.cells]
        keys = [cell.key for cell in kept]
        assert keys == [key for key in everything if key in keys]
        needed = {spec.model_dump_json() for cell in kept for spec in cell.dependencies}
        assert needed <= {cell.spec.model_dump_json() for cell in kept}
        taken.update(cell.key for cell in kept if cell.spec.model_dump_json() not in needed)
        assert len(kept) - len(needed) <= -(-len(everything) // count)
    assert set(everything) - set(taken) <= {cell.key for cell in matrices[0].cells if cell.spec.defense.name == "clip"}
    assert set(taken.values()) == {1}


def test_one_shard_is_the_matrix(registries: None) -> None:
    matrix = small_matrix(attacks=["none", "badnet"], defenses=DEFENSES)
    assert Shard.parse(" 1/1 ").of([matrix]) == [matrix]
