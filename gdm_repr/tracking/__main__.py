"""``python -m gdm_repr.tracking``."""

import sys

from gdm_repr.tracking import main

if __name__ == "__main__":
    sys.exit(main())
