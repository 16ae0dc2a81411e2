"""What a Flex Template's launcher runs: `auditlake stream` with the template's parameters."""

import sys

from pipeline.template import main

sys.exit(main("stream", sys.argv[1:]))
