"""`python -m pipeline` is `auditlake`."""

import sys

from pipeline.cli import main

sys.exit(main())
