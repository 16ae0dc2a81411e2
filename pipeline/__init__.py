"""Puts it together: graph, configuration, command line. Imported by nothing."""

import os

# Arrow looks at it when it is imported. Its own allocator asks for large pages, and clears far more than is used.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
