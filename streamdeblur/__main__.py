"""`python -m streamdeblur`: the same as the `streamdeblur` command."""

import sys

from streamdeblur.cli import main

sys.exit(main())
