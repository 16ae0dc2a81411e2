"""Wrong use of the command line."""


class UsageError(Exception):
    """The command was used wrongly; the message says what was given, what was expected and what to do. Exit code 2."""
