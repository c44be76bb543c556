"""``python -m gdm_repr.analysis.element_factors``."""

import sys

from gdm_repr.analysis.element_factors import main

if __name__ == "__main__":
    sys.exit(main())
