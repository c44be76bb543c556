"""``python -m gdm_repr.analysis.factor_map``."""

import sys

from gdm_repr.analysis.factor_map import main

if __name__ == "__main__":
    sys.exit(main())
