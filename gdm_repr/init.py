"""Make a training config from images: ``gdm-repr init IMAGES --out my.yaml``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gdm_repr.command import run
from gdm_repr.config import InitConfig

if TYPE_CHECKING:
    from gdm_repr.survey import Survey


def open_work(config: InitConfig) -> Survey:
    """Look at the images.

    Raises:
        ValueError: for data that can't be used.
    """
    from gdm_repr.survey import survey

    return survey(config.data, config.labels)


def init(config: InitConfig) -> int:
    """Run the command.

    Raises:
        ValueError: for data that can't be used, or a file that is there already.
    """
    from gdm_repr.files import write_text
    from gdm_repr.proposal import as_yaml, describe_training, propose

    proposal = propose(
        config.data,
        labels=config.labels,
        minutes=config.minutes,
        device=config.device,
        size=config.size,
    )
    config.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(config.out, as_yaml(proposal))
    print(
        *describe_training(proposal.config(out="model"), proposal.dataset, proposal.rates), sep="\n"
    )
    print(f"\n{config.out}; edit it, or: gdm-repr train --config {config.out} --out runs/mine")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gdm-repr init``; a first argument without a flag is the images."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given and not given[0].startswith("-"):
        given.insert(0, "--data")
    return run(InitConfig, "init", given, init, opened=open_work)


if __name__ == "__main__":
    sys.exit(main())
