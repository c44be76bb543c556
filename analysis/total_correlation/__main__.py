"""``python -m gdm_repr.analysis.total_correlation``."""

import sys

from gdm_repr.analysis.total_correlation import main

if __name__ == "__main__":
    sys.exit(main())
