"""``python -m gdm_repr.analysis.traversal``."""

import sys

from gdm_repr.analysis.traversal import main

if __name__ == "__main__":
    sys.exit(main())
