"""`python -m pipelines` is the same as the `sim2real` command."""

import sys

from pipelines.cli import main

sys.exit(main())
