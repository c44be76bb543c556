"""``gdm-repr NAME ...``: find the command called NAME and hand it the rest of the line.

Every command is a module with ``main(argv) -> int`` and also runs as ``python -m gdm_repr.NAME``.
The table below is all this module knows, so that ``gdm-repr --help`` imports nothing heavy. A
command is added by writing its module and one row here.
"""

import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from gdm_repr.boundary.streams import sturdy_streams


class Row(NamedTuple):
    """One row of the table: the module that holds ``main`` and the line shown by ``--help``."""

    module: str
    summary: str


COMMANDS = {
    "init": Row("gdm_repr.init", "make a training config from images"),
    "prepare": Row("gdm_repr.prepare", "decode and resize images once, into small PNG files"),
    "train": Row("gdm_repr.train", "train a model on images"),
    "encode": Row("gdm_repr.encode", "turn a data set into a store of grouped latents"),
    "decode": Row("gdm_repr.decode", "turn a store of latents back into images"),
    "sample": Row("gdm_repr.sample", "draw new images from a model"),
    "edit": Row("gdm_repr.edit", "mix, vary, set, interpolate latents, or move them by labels"),
    "neighbours": Row("gdm_repr.neighbours", "find the nearest images of a store, by band"),
    "map": Row("gdm_repr.map", "lay the images of a store out on a plane, by their latents"),
    "analyse": Row("gdm_repr.analysis.__main__", "say what the latents hold, in a report"),
    "serve": Row("gdm_repr.serve", "show the explorer, and answer programs over HTTP"),
    "study": Row("gdm_repr.analysis.study", "train, score and compare choices"),
    "compare": Row("gdm_repr.analysis.compare", "compare the choices behind stored runs"),
    "list": Row("gdm_repr.list", "list what can be chosen by name: groupings, bases, sources .."),
    "selftest": Row("gdm_repr.selftest", "check the known truths on this machine"),
    "track": Row("gdm_repr.tracking", "send a run's local record to MLflow (replay)"),
}


def usage() -> str:
    """Return the text of ``gdm-repr --help``: one line per command."""
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}  {row.summary}" for name, row in COMMANDS.items()]
    return "\n".join(
        [
            "usage: gdm-repr NAME [options]",
            "       gdm-repr NAME --help",
            "",
            "Groupwise Diffusion Models as a representation of images.",
            "",
            "commands:",
            *rows,
            "",
            "options:",
            "  -h, --help  show this text",
            "  --version   show the version",
        ]
    )


@sturdy_streams()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names.

    Args:
        argv: The arguments without the program's name; ``None`` takes them from ``sys.argv``.

    Returns:
        The command's exit status; 2 when no command, or none that exists, is named.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        print(usage(), file=sys.stderr)
        return 2
    name, *rest = arguments
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        from gdm_repr.version import __version__

        print(f"gdm-repr {__version__}")
        return 0
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=2)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        known = ", ".join(COMMANDS)
        print(f"gdm-repr: error: no command {name!r}; {hint}commands: {known}", file=sys.stderr)
        return 2
    status: int = importlib.import_module(COMMANDS[name].module).main(rest)
    return status


if __name__ == "__main__":
    sys.exit(main())
