"""What ends a command: wrong use, a runner that gave up, or Ctrl-C."""

STOPPED = "auditlake: stopped; what was committed stays, run the same command again to go on"
STOPPED_CODE = 130


class UsageError(Exception):
    """The command was used wrongly; the message says what was given, what was expected and what to do. Exit code 2."""


class JobError(Exception):
    """The runner could not run the job to its end; the message says why. Exit code 1."""
