"""``python -m gdm_repr.analysis.disentanglement``."""

import sys

from gdm_repr.analysis.disentanglement import main

if __name__ == "__main__":
    sys.exit(main())
