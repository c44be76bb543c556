"""Make a training config from images: ``gdm-repr init IMAGES --out my.yaml``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from gdm_repr.command import run
from gdm_repr.config import InitConfig


def init(config: InitConfig) -> int:
    """Run the command.

    Raises:
        ValueError: for data that can't be used, or a file that is there already.
    """
    from gdm_repr.files import write_text
    from gdm_repr.proposal import EVALUATIONS, as_yaml, describe_training, propose

    proposal = propose(
        config.data,
        labels=config.labels,
        minutes=config.minutes,
        device=config.device,
        size=config.size,
    )
    write_text(config.out, as_yaml(proposal))
    train = proposal.config(out="model")
    print(f"{'bands':<20}{', '.join(proposal.bands)}")
    rows = describe_training(
        train, proposal.shape, len(proposal.bands), proposal.rates, EVALUATIONS
    )
    print(*rows, sep="\n")
    print(f"\n{config.out}; edit it, or: gdm-repr train --config {config.out} --out runs/mine")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr init``; a first argument without a flag is the images."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given and not given[0].startswith("-"):
        given.insert(0, "--data")
    return run(InitConfig, "init", given, init)


if __name__ == "__main__":
    sys.exit(main())
