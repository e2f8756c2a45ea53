"""open_clip's trainer, which knows the models of this project too: `python -m bench.export.open_clip --train-data ...`.

Arguments are those of open_clip_train.main, of the extra open_clip_torch[training].
"""

from __future__ import annotations

import sys

from bench.errors import UserError
from bench.models import factory


def main(arguments: list[str]) -> None:
    try:
        from open_clip_train.main import main as train
    except ImportError as error:
        raise UserError(f"open_clip's trainer needs more ({error}); pip install 'open_clip_torch[training]'") from None
    factory.own_models()
    train(arguments)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as problem:
        sys.exit(f"bench: {problem}")
