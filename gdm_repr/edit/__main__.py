"""``python -m gdm_repr.edit``."""

import sys

from gdm_repr.edit import main

if __name__ == "__main__":
    sys.exit(main())
