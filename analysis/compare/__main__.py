"""``python -m gdm_repr.analysis.compare``."""

import sys

from gdm_repr.analysis.compare import main

if __name__ == "__main__":
    sys.exit(main())
