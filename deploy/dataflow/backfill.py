"""What a Flex Template's launcher runs: `auditlake backfill` with the template's parameters."""

import sys

from pipeline.template import main

sys.exit(main("backfill", sys.argv[1:]))
