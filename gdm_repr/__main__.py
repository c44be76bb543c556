"""``python -m gdm_repr NAME ...``, the same as ``gdm-repr NAME ...``."""

import sys

from gdm_repr.cli import main

if __name__ == "__main__":
    sys.exit(main())
