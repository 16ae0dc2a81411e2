"""The command line. Exit codes: 0 complete, 1 finished with something missing, 2 wrong use."""

import atexit
import gc
import json
import logging
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from pipeline.arguments import parse
from pipeline.config import find_lake, load_config
from pipeline.errors import STOPPED, STOPPED_CODE, JobError, UsageError

# Each command imports what it runs when it runs: --help and query must not wait for Beam.


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
    gc.freeze()  # all of Beam stays: to look through it again and again is up to a twentieth of a run
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


_COMMANDS: dict[str, Callable[[Namespace], int]] = {
    "backfill": _backfill,
    "stream": _stream,
    "emulate": _emulate,
    "verify": _verify,
    "status": _status,
    "gaps": _gaps,
    "replay": _replay,
    "compact": _compact,
    "drift": _drift,
    "query": _query,
    "schema": _schema,
    "export": _export,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    own, command = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        return _run(own, command)
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        with suppress(OSError):
            sys.stdout.flush()
        # Python would next wait for locks that threads of a job's client may hold, and these stand still by then.
        atexit._run_exitfuncs()
        os._exit(STOPPED_CODE)
    except BrokenPipeError:
        # The reader has seen enough; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(words: list[str], command: list[str]) -> int:
    from lake.storage import LakeError, WrongRequestError
    from o365.errors import ActivityError, ConfigError

    try:
        args = parse(words, command)
        code: int = _COMMANDS[args.name](args)
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
