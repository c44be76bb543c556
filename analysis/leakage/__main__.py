"""``python -m gdm_repr.analysis.leakage``."""

import sys

from gdm_repr.analysis.leakage import main

if __name__ == "__main__":
    sys.exit(main())
