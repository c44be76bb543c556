"""``python -m gdm_repr.analysis.sample_quality``."""

import sys

from gdm_repr.analysis.sample_quality import main

if __name__ == "__main__":
    sys.exit(main())
