"""``python -m gdm_repr.analysis.study``."""

import sys

from gdm_repr.analysis.study import main

if __name__ == "__main__":
    sys.exit(main())
