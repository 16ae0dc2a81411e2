"""`auditlake emulate`: the service in the foreground, or around a command."""

import json
import os
import shlex
import signal
import subprocess
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime
from errno import EACCES, EADDRINUSE
from pathlib import Path
from types import FrameType

from emulator.fault_script import script_names
from emulator.server import DEFAULT_COUNT, Emulator, running
from emulator.tenant import Tenant
from emulator.window import parse_time

_STOPS = (signal.SIGINT, signal.SIGTERM)


def add_arguments(parser: ArgumentParser) -> None:
    """Adds the options of `auditlake emulate`; `--json` and what follows `--` are the main parser's."""
    parser.add_argument(
        "--records", nargs="+", type=Path, default=[], metavar="FILE", help="NDJSON files (.gz too) to serve as records"
    )
    parser.add_argument("--tenants", type=_at_least(1), default=1, metavar="N", help="how many tenants (default 1)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="what ids, secrets and content hang on")
    parser.add_argument(
        "--count",
        type=_at_least(0),
        metavar="N",
        help=f"generated records per tenant (default {DEFAULT_COUNT}, 0 for a tenant with --records)",
    )
    parser.add_argument("--quota", type=_at_least(1), metavar="N", help="requests per tenant and minute (default: any)")
    parser.add_argument("--port", type=_at_least(0), default=0, metavar="N", help="TCP port (default 0: a free one)")
    parser.add_argument("--anchor", metavar="TIME", help="content lies in the 7 days before this time (default now)")
    parser.add_argument(
        "--faults",
        type=Path,
        metavar="FILE",
        help=f"TOML script of faults, or the name of one that is here: {', '.join(script_names())}",
    )
    parser.add_argument("--control", action="store_true", help="serve the control endpoints below /control/")


def run(args: Namespace, *, json_output: bool) -> int:
    """Runs the service until a signal, or until the command of `args.command` ends.

    Returns:
      0, the command's exit code, or 2 where the arguments cannot work.
    """
    command: list[str] = list(getattr(args, "command", None) or [])
    # Blocked from the first, so that no thread gets them and none is lost while content is being made.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        with ExitStack() as stack:
            try:
                emu = stack.enter_context(_service(args))
            except (OSError, OverflowError, ValueError) as error:
                return _refuse(_reason(error, args.port))
            return _run_command(emu, command, mask) if command else _wait(emu, json_output=json_output)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def environment(emu: Emulator, tenant: Tenant | None = None) -> dict[str, str]:
    """Returns the variables that point auditlake at the service and a tenant, by default the first."""
    tenant = tenant or emu.tenants[0]
    return {
        "AUDITLAKE_API_ROOT": emu.api_root,
        "AUDITLAKE_AUTHORITY": emu.authority,
        "AUDITLAKE_CA_FILE": str(emu.ca_file),
        "AUDITLAKE_TENANT_ID": tenant.tenant_id,
        "AUDITLAKE_CLIENT_ID": tenant.client_id,
        "AUDITLAKE_CLIENT_SECRET": tenant.client_secret,
    }


def _service(args: Namespace) -> AbstractContextManager[Emulator]:
    return running(
        tenants=args.tenants,
        seed=args.seed,
        records=args.records,
        count=args.count,
        quota=args.quota,
        control=args.control,
        anchor=_anchor(args.anchor),
        port=args.port,
        faults=args.faults,
    )


def _wait(emu: Emulator, *, json_output: bool) -> int:
    print(_as_json(emu) if json_output else _as_text(emu), flush=True)
    signal.sigwait(_STOPS)
    return 0


def _run_command(emu: Emulator, command: list[str], mask: Iterable[int]) -> int:
    started: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        # A terminal sends Ctrl-C to the command too; a second one could cut short its orderly end.
        if number == signal.SIGINT and sys.stdin is not None and sys.stdin.isatty():
            return
        if started:
            started[0].send_signal(number)
        else:
            early.append(number)

    before = {number: signal.signal(number, forward) for number in _STOPS}
    # The command inherits the mask, and must not be deaf.
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        started.append(subprocess.Popen(command, env=os.environ | environment(emu)))  # noqa: S603 - the user's own
        for number in early:
            started[0].send_signal(number)
        code = started[0].wait()
    except OSError as error:
        return _refuse(f"cannot run {shlex.join(command)}: {error.strerror}")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _as_json(emu: Emulator) -> str:
    tenants = [
        {"tenant_id": tenant.tenant_id, "client_id": tenant.client_id, "client_secret": tenant.client_secret}
        for tenant in emu.tenants
    ]
    where = {"api_root": emu.api_root, "authority": emu.authority, "ca_file": str(emu.ca_file)}
    return json.dumps(where | {"tenants": tenants})


def _as_text(emu: Emulator) -> str:
    lines = [f"API        {emu.api_root}", f"Authority  {emu.authority}", f"CA file    {emu.ca_file}", ""]
    for tenant in emu.tenants:
        blobs = tenant.by_id.values()
        lines += [
            f"Tenant     {tenant.tenant_id}  ({sum(len(b.lines) for b in blobs):,} records in {len(blobs):,} blobs)",
            f"  client   {tenant.client_id}",
            f"  secret   {tenant.client_secret}",
        ]
    lines += ["", "To use the first tenant:"]
    lines += [f"  export {name}={shlex.quote(value)}" for name, value in environment(emu).items()]
    return "\n".join([*lines, "", "Ctrl-C ends it."])


def _anchor(text: str | None) -> datetime | None:
    if text is None:
        return None
    anchor = parse_time(text)
    if anchor is None:
        raise ValueError(f"--anchor: {text!r} is not a time; expected one like 2026-11-20T08:00:00Z")
    return anchor


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise ArgumentTypeError(f"{text!r} is not a whole number of {least} or more")
        return int(text)

    return number


def _reason(error: Exception, port: int) -> str:
    if isinstance(error, OverflowError):
        return f"--port: {port} is not a port; expected 0 to 65535"
    if isinstance(error, OSError) and error.filename is not None:
        return f"--records: cannot read {error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.errno in (EACCES, EADDRINUSE):
        return f"--port: {port} is in use or not allowed; leave it out for a free one"
    return str(error)


def _refuse(reason: str) -> int:
    print(f"auditlake emulate: {reason}", file=sys.stderr)
    return 2
