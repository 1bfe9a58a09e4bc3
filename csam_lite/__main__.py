"""`python -m csam_lite`: see cli.py."""

import sys

from csam_lite.cli import main

if __name__ == "__main__":
    sys.exit(main())
