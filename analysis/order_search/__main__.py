"""``python -m gdm_repr.analysis.order_search``."""

import sys

from gdm_repr.analysis.order_search import main

if __name__ == "__main__":
    sys.exit(main())
