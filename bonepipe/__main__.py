"""`python -m bonepipe`."""

import sys

from bonepipe.cli import main

if __name__ == "__main__":
    sys.exit(main())
