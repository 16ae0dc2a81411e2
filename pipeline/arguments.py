"""What the command line takes: commands, options, and help by example."""

from argparse import (
    Action,
    ArgumentParser,
    ArgumentTypeError,
    Namespace,
    RawDescriptionHelpFormatter,
    _SubParsersAction,
)
from typing import Any

from pipeline.config import DEFAULT_FILE, SECRET_ENV, SETTINGS
from pipeline.errors import UsageError

_EXAMPLES = """\
examples:
  auditlake emulate -- auditlake backfill --lake ./data --start -7d    try it without a tenant
  auditlake backfill --lake ./data --start auto                        land what is new since the last run
  auditlake verify --lake ./data                                       prove that nothing is missing
  auditlake query --lake ./data "select Operation, count(*) from audit group by all order by 2 desc limit 10"
  auditlake export --lake ./data --where "UserId = 'adele@contoso.com'" > records.ndjson
"""
_BACKFILL = f"""\
Times are ISO 8601 (UTC unless they name a zone), a time back such as -7d, -12h or -90m, `now`, or, for the start,
`auto`: where the ledger left off, and everything the service keeps on an empty lake.

examples:
  auditlake backfill --lake ./data --start -7d
  auditlake backfill --lake ./data --start 2026-11-20 --end 2026-11-21T12:00:00Z
  auditlake backfill --config {DEFAULT_FILE} --start auto --dry-run

The secret comes by environment or file only: set {SECRET_ENV}, or name --client-secret-file or --certificate-file.
Options of Apache Beam, such as --runner=FlinkRunner, pass through; without any, everything runs in this process.
"""
_STREAM = """\
Goes on where the ledger left off. SIGTERM or Ctrl-C ends it when what is under way has landed, with exit code 0; a
second one ends it at once. Neither loses anything. Options of Apache Beam, such as --runner=PrismRunner, pass through;
without any, everything runs in this process.

examples:
  auditlake stream --lake ./data
  auditlake stream --lake ./data --poll-interval 60s --metrics-port 9464
  auditlake stream --lake ./data --json --polls 1
"""
_EMULATE = """\
Everything after -- runs with AUDITLAKE_API_ROOT, AUDITLAKE_AUTHORITY, AUDITLAKE_CA_FILE, AUDITLAKE_TENANT_ID,
AUDITLAKE_CLIENT_ID and AUDITLAKE_CLIENT_SECRET set; the service ends with it and returns its exit code.

examples:
  auditlake emulate -- auditlake backfill --lake ./data --start -7d
  auditlake emulate --records records.ndjson.gz -- auditlake backfill --lake ./try --start -7d
  auditlake emulate --tenants 3 --quota 600 --json
"""
_VERIFY = """\
examples:
  auditlake verify --lake ./data
  auditlake verify --lake ./data --against-service
"""
_QUERY = """\
Views: one a table (auditlake schema), audit over their common columns, record_types, ledger_blobs, ledger_files,
ledger_slices, ledger_drift and rejected.

examples:
  auditlake query --lake ./data "select count(*), count(distinct Id) from audit"
  auditlake query --lake ./data "select date, Operation, ClientIP from aad_logon where UserId = 'adele@contoso.com'"
  auditlake query --lake ./data --json "select Parameters['Identity'] as who from exchange_admin limit 5"
  auditlake query --lake ./data "select _extra ->> 'NewMember' from sharepoint where _extra is not null"
"""
_EXPORT = """\
examples:
  auditlake export --lake ./data > records.ndjson
  auditlake export --lake ./data --where "UserId = 'adele@contoso.com' and date >= '2026-11-20'"
"""


class _Parser(ArgumentParser):
    """Takes no abbreviations, and gives its errors to `main`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def error(self, message: str) -> Any:
        """Raises instead of printing the usage."""
        raise UsageError(f"{message}; see {self.prog} --help")


def make_parser() -> ArgumentParser:
    """Makes the parser of all commands."""
    parser = _Parser(
        prog="auditlake",
        description="Lands Microsoft 365 audit records as typed Parquet, each once, and proves it.",
        epilog=_EXAMPLES,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)

    def command(name: str, summary: str, **kwargs: Any) -> ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".", **kwargs)
        added.set_defaults(name=name)
        return added

    _add_backfill(command("backfill", "land what the feed has and the lake does not", epilog=_BACKFILL))
    followed = "follow the feed: land what appears within a minute, until stopped"
    _add_stream(command("stream", followed, epilog=_STREAM))
    emulate = command("emulate", "run a faithful local service with made-up or given records", epilog=_EMULATE)
    _add_emulate(emulate)
    proof = "prove from the lake alone that nothing is missing, doubled or changed"
    _add_verify(command("verify", proof, epilog=_VERIFY))
    _add_lake(command("status", "show how far each feed is landed"))
    _add_lake(command("gaps", "name every stretch of time that is not proven complete, and why"))
    _add_lake(command("replay", "try rejected records again with today's schemas"))
    _add_compact(command("compact", "make few large files of the many small ones of days that are over"))
    _add_lake(command("drift", "show what records hold that the schemas do not declare"))
    query = _add_lake(command("query", "ask the lake in SQL (DuckDB)", epilog=_QUERY))
    query.add_argument("sql", help="a SELECT over audit, a table, or the ledger_* views")
    query.add_argument("--csv", action="store_true", help="print comma-separated values")
    schema = command("schema", "show tables and columns")
    schema.add_argument("table", nargs="?", help="one table (all)")
    schema.add_argument("--form", choices=("text", "avro", "ddl"), default="text", help="how to show it (text)")
    rebuilt = "print records as they were, rebuilt from their rows, as NDJSON"
    export = command("export", rebuilt, epilog=_EXPORT)
    _add_lake(export, json_option=False)
    export.add_argument("--where", metavar="SQL", help="only rows that meet this condition")
    return parser


def options_of(command: str) -> list[Action]:
    """Gives the options of a command, without --help."""
    (commands,) = (a for a in make_parser()._actions if isinstance(a, _SubParsersAction))
    return [option for option in commands.choices[command]._actions if option.dest != "help"]


def _add_lake(parser: ArgumentParser, *, json_option: bool = True) -> ArgumentParser:
    parser.add_argument("--lake", metavar="URI", help="a folder, gs://, s3://, az:// or abfss:// (AUDITLAKE_LAKE)")
    return _add_json(parser) if json_option else parser


def _add_json(parser: ArgumentParser) -> ArgumentParser:
    parser.add_argument("--json", action="store_true", help="print JSON for scripts")
    return parser


def _add_backfill(parser: ArgumentParser) -> None:
    _add_lake(parser)
    parser.add_argument("--start", metavar="T", default="auto", help="available time from (auto)")
    parser.add_argument("--end", metavar="T", default="now", help="available time up to (now)")
    parser.add_argument("--gaps", action="store_true", help="only heal gaps: list what never was, fetch what failed")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    _add_feeds(parser)


def _add_stream(parser: ArgumentParser) -> None:
    _add_lake(parser)
    parser.add_argument("--poll-interval", metavar="T", default="30s", help="time from poll to poll (30s)")
    parser.add_argument("--polls", metavar="N", type=_at_least_one, help="end after so many polls (never)")
    parser.add_argument(
        "--metrics-port", metavar="[HOST:]PORT", help="serve /metrics for Prometheus and /healthz (127.0.0.1)"
    )
    _add_feeds(parser)


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r}: expected a number of 1 or more")
    return int(text)


def _add_feeds(parser: ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help=f"settings of one or more tenants ({DEFAULT_FILE} if there)")
    parser.add_argument(
        "--settle",
        metavar="T",
        help="how long a slice may get late blobs, such as 48h or DLP.All=72h (AUDITLAKE_SETTLE)",
    )
    _add_tenant(parser)


def _add_tenant(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("tenant", "each also as AUDITLAKE_… in the environment; a flag wins")
    for setting in SETTINGS:
        group.add_argument(setting.flag, metavar=setting.key.rpartition("_")[2].upper(), help=setting.help)


def _add_compact(parser: ArgumentParser) -> None:
    _add_lake(parser).add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument(
        "--older-than",
        metavar="T",
        default="2d",
        help="only days (UTC) that have been over for so long, such as 48h; 0d for all (2d)",
    )


def _add_verify(parser: ArgumentParser) -> None:
    _add_lake(parser)
    parser.add_argument(
        "--against-service", action="store_true", help="also list the feeds again and name blobs the ledger lacks"
    )
    parser.add_argument("--config", metavar="FILE", help=f"settings of one or more tenants ({DEFAULT_FILE} if there)")
    _add_tenant(parser)


def _add_emulate(parser: ArgumentParser) -> None:
    from emulator.cli import add_arguments

    add_arguments(_add_json(parser))


def _join_times(words: list[str]) -> list[str]:
    """Joins `--start -7d` to `--start=-7d`: argparse would take the time for an option."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] in ("--start", "--end") and word[:1] == "-" and word[1:2].isdigit():
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def parse(words: list[str], command: list[str]) -> Namespace:
    """Reads the words of a command, and those behind `--`; what is not ours is left in `rest`.

    Raises:
      UsageError: They are no command.
    """
    args, rest = make_parser().parse_known_args(_join_times(words))
    args.rest = rest
    args.command = command
    if args.rest and args.name not in ("backfill", "stream"):
        raise UsageError(f"unknown option {args.rest[0].partition('=')[0]!r}; see auditlake {args.name} --help")
    if command and args.name != "emulate":
        raise UsageError(f"{command[0]!r} after -- is of use only with emulate")
    return args
