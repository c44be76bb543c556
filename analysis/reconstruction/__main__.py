"""``python -m gdm_repr.analysis.reconstruction``."""

import sys

from gdm_repr.analysis.reconstruction import main

if __name__ == "__main__":
    sys.exit(main())
