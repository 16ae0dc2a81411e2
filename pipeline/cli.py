"""The command line. Exit codes: 0 complete, 1 finished with something missing, 2 wrong use."""

import json
import logging
import os
import sys
from argparse import (
    Action,
    ArgumentParser,
    ArgumentTypeError,
    Namespace,
    RawDescriptionHelpFormatter,
    _SubParsersAction,
)
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from pipeline.config import DEFAULT_FILE, SECRET_ENV, SETTINGS, find_lake, load_config
from pipeline.errors import JobError, UsageError

# Each command imports what it runs when it runs: --help and query must not wait for Beam.

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


def _parser() -> ArgumentParser:
    parser = _Parser(
        prog="auditlake",
        description="Lands Microsoft 365 audit records as typed Parquet, each once, and proves it.",
        epilog=_EXAMPLES,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)

    def command(name: str, run: Callable[..., int], summary: str, **kwargs: Any) -> ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".", **kwargs)
        added.set_defaults(run=run, name=name)
        return added

    _add_backfill(command("backfill", _backfill, "land what the feed has and the lake does not", epilog=_BACKFILL))
    followed = "follow the feed: land what appears within a minute, until stopped"
    _add_stream(command("stream", _stream, followed, epilog=_STREAM))
    emulate = command(
        "emulate", _emulate, "run a faithful local service with made-up or given records", epilog=_EMULATE
    )
    _add_emulate(emulate)
    proof = "prove from the lake alone that nothing is missing, doubled or changed"
    _add_verify(command("verify", _verify, proof, epilog=_VERIFY))
    _add_lake(command("status", _status, "show how far each feed is landed"))
    _add_lake(command("gaps", _gaps, "name every stretch of time that is not proven complete, and why"))
    _add_lake(command("replay", _replay, "try rejected records again with today's schemas"))
    _add_compact(command("compact", _compact, "make few large files of the many small ones of days that are over"))
    _add_lake(command("drift", _drift, "show what records hold that the schemas do not declare"))
    query = _add_lake(command("query", _query, "ask the lake in SQL (DuckDB)", epilog=_QUERY))
    query.add_argument("sql", help="a SELECT over audit, a table, or the ledger_* views")
    query.add_argument("--csv", action="store_true", help="print comma-separated values")
    schema = command("schema", _schema, "show tables and columns")
    schema.add_argument("table", nargs="?", help="one table (all)")
    schema.add_argument("--form", choices=("text", "avro", "ddl"), default="text", help="how to show it (text)")
    rebuilt = "print records as they were, rebuilt from their rows, as NDJSON"
    export = command("export", _export, rebuilt, epilog=_EXPORT)
    _add_lake(export, json_option=False)
    export.add_argument("--where", metavar="SQL", help="only rows that meet this condition")
    return parser


def options_of(command: str) -> list[Action]:
    """Gives the options of a command, without --help."""
    (commands,) = (a for a in _parser()._actions if isinstance(a, _SubParsersAction))
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


def _backfill(args: Namespace) -> int:
    return _run_graph("pipeline.backfill", args)


def _stream(args: Namespace) -> int:
    return _run_graph("pipeline.stream", args)


def _run_graph(module: str, args: Namespace) -> int:
    # Beam warns at import about extras that this program does not use, and prints a traceback for what this program
    # says in one sentence.
    logging.disable(logging.WARNING)
    run = import_module(module).run
    logging.disable(logging.NOTSET)
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    code: int = run(args, args.rest, os.environ, sys.stdout)
    return code


def _emulate(args: Namespace) -> int:
    from emulator.cli import run

    code: int = run(args, json_output=args.json)
    return code


def _storage(args: Namespace) -> Any:
    from lake.storage import open_storage

    return open_storage(find_lake(args.lake, os.environ))


def _verify(args: Namespace) -> int:
    from lake.verify import describe, to_json, verify

    storage = _storage(args)
    compared = _compared(args, storage) if args.against_service else None
    found = verify(storage)
    found.problems += compared.problems if compared else []
    if args.json:
        told = {"service_listed": compared.listed, "service_newer": compared.newer} if compared else {}
        print(json.dumps(to_json(found) | told))
    else:
        if compared:
            print(import_module("pipeline.against_service").describe(compared))
        print(describe(found))
    return 1 if found.problems else 0


def _compared(args: Namespace, storage: Any) -> Any:
    logging.disable(logging.WARNING)  # Beam, for the grid, warns at import about what this program does not use
    compare = import_module("pipeline.against_service").compare
    logging.disable(logging.NOTSET)
    return compare(storage, load_config(vars(args), os.environ).connections)


def _status(args: Namespace) -> int:
    from lake.status import describe, status, to_json

    found = status(_storage(args))
    print(json.dumps(to_json(found)) if args.json else describe(found))
    return 0


def _gaps(args: Namespace) -> int:
    from lake.gaps import describe, gaps, to_json

    found = gaps(_storage(args), datetime.now(UTC))
    print(json.dumps(to_json(found)) if args.json else describe(found))
    return 1 if found else 0


def _replay(args: Namespace) -> int:
    from pipeline.replay import run

    code: int = run(_storage(args), json_output=args.json, out=sys.stdout)
    return code


def _compact(args: Namespace) -> int:
    from pipeline.compact import run

    options = {"older_than": args.older_than, "dry_run": args.dry_run, "json_output": args.json}
    code: int = run(_storage(args), **options, out=sys.stdout)
    return code


def _drift(args: Namespace) -> int:
    from lake.drift import describe, drift, to_json

    found = drift(_storage(args))
    print(json.dumps(to_json(found)) if args.json else describe(found))
    return 0


def _query(args: Namespace) -> int:
    from lake.query import render, run_query

    form = "json" if args.json else "csv" if args.csv else "text"
    for line in render(run_query(_storage(args), args.sql), form):
        print(line)
    return 0


def _schema(args: Namespace) -> int:
    from lake.schema_text import describe_schema
    from schemas.model import tables

    if args.table and args.table not in tables():
        raise UsageError(f"there is no table {args.table!r}: expected one of {', '.join(tables())}")
    print(describe_schema(args.table, args.form))
    return 0


def _export(args: Namespace) -> int:
    from lake.export import export

    for line in export(_storage(args), args.where):
        print(line)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    own, command = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        return _run(own, command)
    except KeyboardInterrupt:
        print("auditlake: stopped; what was committed stays, run the same command again to go on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader has seen enough; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _join_times(words: list[str]) -> list[str]:
    """Joins `--start -7d` to `--start=-7d`: argparse would take the time for an option."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] in ("--start", "--end") and word[:1] == "-" and word[1:2].isdigit():
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _parse(words: list[str], command: list[str]) -> Namespace:
    args, rest = _parser().parse_known_args(_join_times(words))
    args.rest = rest
    args.command = command
    if args.rest and args.name not in ("backfill", "stream"):
        raise UsageError(f"unknown option {args.rest[0].partition('=')[0]!r}; see auditlake {args.name} --help")
    if command and args.name != "emulate":
        raise UsageError(f"{command[0]!r} after -- is of use only with emulate")
    return args


def _run(words: list[str], command: list[str]) -> int:
    from lake.storage import LakeError, WrongRequestError
    from o365.errors import ActivityError, ConfigError

    try:
        args = _parse(words, command)
        code: int = args.run(args)
    except (UsageError, ConfigError, WrongRequestError) as error:
        return _fail(error, 2)
    except (ActivityError, LakeError, JobError) as error:
        return _fail(error, 1)
    except BrokenPipeError:
        raise
    except OSError as error:
        hint = "make room or give access there (TMPDIR names the folder of temporary files)"
        return _fail(f"the system refused: {error}; {hint}", 1)
    return code


def _fail(error: Exception | str, code: int) -> int:
    from lake.text_table import one_line

    # Beam adds the step's name to what was raised inside a step.
    sentence = str(error).partition(" [while running")[0]
    print("auditlake: " + "\n".join(map(one_line, sentence.splitlines())), file=sys.stderr)
    return code
