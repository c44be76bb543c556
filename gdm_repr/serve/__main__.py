"""``python -m gdm_repr.serve``."""

import sys

from gdm_repr.serve import main

if __name__ == "__main__":
    sys.exit(main())
