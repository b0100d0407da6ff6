"""`python -m vmil` is the command line."""

import sys

from vmil.cli import main

sys.exit(main())
