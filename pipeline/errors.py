"""What ends a command: wrong use, or a runner that gave up."""


class UsageError(Exception):
    """The command was used wrongly; the message says what was given, what was expected and what to do. Exit code 2."""


class JobError(Exception):
    """The runner could not run the job to its end; the message says why. Exit code 1."""
