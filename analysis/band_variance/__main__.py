"""``python -m gdm_repr.analysis.band_variance``."""

import sys

from gdm_repr.analysis.band_variance import main

if __name__ == "__main__":
    sys.exit(main())
