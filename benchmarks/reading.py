"""Reading: six questions that a responder asks, of a lake of 10 million rows and of one naive Parquet file a blob.

The rows are those of eleven days of a tenant of about 5,000 people; they take a quarter of an hour to make. Both
lakes are read by DuckDB in one process, with its own threads, each question on a connection of its own; bytes are all
that the process reads meanwhile, the ledger too. The naive lake is measured as one would ask it, and once more spared
what it costs to find the columns of its files: they are given, as auditlake gives them. The sign-ins of the feed hold
no country: the question asks for the system they came from, a member of a map.

Other forms of the files are measured on copies of the compacted lake.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from shutil import rmtree
from statistics import median
from time import perf_counter, process_time
from typing import Any

import duckdb

from benchmarks import report
from benchmarks.correct import versions
from benchmarks.reading_lakes import BLOB_RECORDS, compact, looked_for, make, rewrite
from lake.query import run_query
from lake.storage_local import LocalStorage

ROWS, COMPANIES = 10_000_000, 100
SMALL_ROWS, SMALL_COMPANIES = 6_000, 2
ROUNDS = 3
FORMS: Mapping[str, Mapping[str, Any]] = {
    "as it is": {},
    "no bloom filters": {"filters": ()},
    "bloom filters on Id alone": {"filters": ("Id",)},
    "bloom filters on Id, UserId, ClientIP": {"filters": ("Id", "UserId", "ClientIP")},
    "row groups of 32 K": {"group_rows": 32 * 1024},
    "no dictionaries": {"use_dictionary": False},
    "by user, row groups of 16 K": {"sort": ("UserId", "CreationTime"), "group_rows": 16 * 1024},
}
QUESTIONS = {
    "one Id": """
        SELECT Id, CreationTime, Operation, UserId, ClientIP, ObjectId, Workload FROM audit WHERE Id = {Id}""",
    "one user for a week": """
        SELECT CreationTime, Operation, ClientIP, ObjectId FROM audit
        WHERE UserId = {UserId} AND date BETWEEN '2026-10-19' AND '2026-10-25'
        AND CreationTime >= '2026-10-19 00:00:00Z' AND CreationTime < '2026-10-26 00:00:00Z'""",
    "one IP over all tables": """
        SELECT CreationTime, Workload, Operation, UserId FROM audit WHERE ClientIP = {ClientIP}""",
    "operations per hour": """
        SELECT date_trunc('hour', CreationTime), Operation, count(*) FROM audit GROUP BY ALL""",
    "who downloaded a file": """
        SELECT UserId, count(*), min(CreationTime), max(CreationTime) FROM sharepoint
        WHERE Operation = 'FileDownloaded' AND ObjectId = {ObjectId} GROUP BY ALL""",
    "failed sign-ins by system": """
        SELECT DeviceProperties['OS'], LogonError, count(*) FROM aad_logon
        WHERE Operation = 'UserLoginFailed' GROUP BY ALL""",
}
Row = tuple[Any, ...]


def questions(values: Mapping[str, str]) -> dict[str, str]:
    """Gives the questions in SQL."""
    texts = {name: _text(value) for name, value in values.items()}
    return {question: sql.format_map(texts) for question, sql in QUESTIONS.items()}


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def run(work: Path, *, small: bool = False) -> dict[str, Any]:
    """Measures; gives the figures."""
    count, companies = (SMALL_ROWS, SMALL_COMPANIES) if small else (ROWS, COMPANIES)
    lake, naive = LocalStorage(work / "lake"), work / "naive"
    asked = questions(looked_for(count, companies))
    made = make(lake, naive, count, companies)
    figures: dict[str, Any] = {"machine": report.machine(), "versions": versions()}
    figures |= {"rows": count, "blob_records": BLOB_RECORDS, "naive_files": made}
    rounds = 1 if small else ROUNDS
    landed = measure({"as landed": lake_way(lake)}, asked, rounds)
    compact(lake)
    lakes = {"naive": naive_way(naive, given=False), "naive, columns given": naive_way(naive, given=True)}
    lakes["auditlake"] = lake_way(lake)
    figures["lakes"] = landed | measure(lakes, asked, rounds)
    figures["mb"] = {"naive": _mb(naive), "auditlake": _mb(lake.root / "audit")}
    figures["files"] = sum(1 for _ in (lake.root / "audit").rglob("*.parquet"))
    figures["forms"] = {}
    for name, form in FORMS.items():
        copy = rewrite(lake, work / "copy", form)
        ways = {"auditlake": lake_way(lake), name: lake_way(copy)}
        figures["forms"][name] = measure(ways, asked, rounds)[name] | {"mb": _mb(copy.root / "audit")}
        rmtree(copy.root)
    return figures


def _mb(folder: Path) -> float:
    return sum(p.stat().st_size for p in folder.rglob("*.parquet")) / 1e6


Way = Callable[[str], list[Row]]
"""Opens a lake and answers a question."""


def lake_way(storage: LocalStorage) -> Way:
    """Answers from a lake, by the views of `auditlake query`."""

    def answer(sql: str) -> list[Row]:
        return [
            row for batch in run_query(storage, sql).batches for row in zip(*batch.to_pydict().values(), strict=True)
        ]

    return answer


def naive_way(folder: Path, *, given: bool) -> Way:
    """Answers from a naive lake, by views of the same names; its columns are given, or DuckDB finds them."""
    types = {
        "CreationTime": "TIMESTAMP WITH TIME ZONE",
        **dict.fromkeys(("Id", "Operation", "UserId", "ClientIP", "ObjectId", "Workload"), "VARCHAR"),
        **dict.fromkeys(("LogonError", "DeviceProperties"), "VARCHAR"),
    }
    known = ", ".join(f"'{n}': {{name: '{n}', type: '{t}', default_value: NULL}}" for n, t in types.items())
    columns = f"schema = MAP {{{known}}}" if given else "union_by_name = true"
    pairs = """from_json(DeviceProperties, '[{"Name": "VARCHAR", "Value": "VARCHAR"}]')"""
    views = {"audit": "*", "sharepoint": "Audit.SharePoint", "aad_logon": "Audit.AzureActiveDirectory"}

    def answer(sql: str) -> list[Row]:
        con = duckdb.connect()
        con.execute("SET TimeZone = 'UTC'")
        for view, where in views.items():
            if view in sql:
                members = f"* REPLACE (map_from_entries({pairs}) AS DeviceProperties)" if view == "aad_logon" else "*"
                con.execute(
                    f"CREATE VIEW {view} AS SELECT {members}, CreationTime::DATE AS date "  # noqa: S608 - our own
                    f"FROM read_parquet('{folder}/{where}/*.parquet', {columns})"
                )
        table = con.sql(sql).to_arrow_table()
        return list(zip(*table.to_pydict().values(), strict=True))

    return answer


def measure(lakes: Mapping[str, Way], asked: Mapping[str, str], rounds: int) -> dict[str, Any]:
    """Asks all lakes all questions, in turn; their answers must be the same.

    Raises:
      ValueError: They are not, or an answer is empty.
    """
    taken: dict[str, dict[str, list[dict[str, float]]]] = {lake: {q: [] for q in asked} for lake in lakes}
    for _ in range(rounds):
        for question, sql in asked.items():
            answers = []
            for lake, answer in lakes.items():
                before = _now()
                answers.append(sorted(answer(sql), key=repr))
                after = _now()
                taken[lake][question].append({key: after[key] - before[key] for key in before})
            if not answers[0] or any(a != b for a, b in pairwise(answers)):
                raise ValueError(
                    f"{question!r} has no one answer in {', '.join(lakes)}: {[len(a) for a in answers]} rows"
                )
    return {lake: {q: _medians(runs) for q, runs in found.items()} for lake, found in taken.items()}


def _now() -> dict[str, float]:
    return {"cpu_s": process_time(), "wall_s": perf_counter(), "mb_read": _bytes_read() / 1e6}


def _bytes_read() -> int:
    """Gives the bytes that this process has read by calls of the system; 0 where the system does not tell."""
    told = Path("/proc/self/io")
    return int(told.read_text().split()[1]) if told.exists() else 0


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: median(r[key] for r in runs) for key in runs[0]}


def _total(found: Mapping[str, Mapping[str, float]], key: str) -> float:
    return sum(of[key] for name, of in found.items() if name != "mb")


def show(figures: Mapping[str, Any]) -> str:
    """Lays the figures out as tables."""
    lakes, forms = figures["lakes"], figures["forms"]
    headers = ["question", *(f"{lake}: CPU s, wall s, MB read" for lake in lakes)]
    keys = ("cpu_s", "wall_s", "mb_read")
    rows = [[q, *(_three(found[q], keys) for found in lakes.values())] for q in lakes["naive"]]
    rows.append(["all", *(_three({k: _total(found, k) for k in keys}, keys) for found in lakes.values())])
    title = (
        f"{figures['rows']:,} rows: naive {figures['naive_files']:,} files of {figures['mb']['naive']:,.0f} MB, "
        f"auditlake {figures['files']:,} files of {figures['mb']['auditlake']:,.0f} MB"
    )
    of_forms = [
        [name, f"{found['mb']:,.0f}", _three({k: _total(found, k) for k in keys}, keys)]
        + [_three(found[q], keys) for q in ("one Id", "one user for a week", "one IP over all tables")]
        for name, found in forms.items()
    ]
    form_headers = ["form", "MB", "all: CPU s, wall s, MB read", "one Id", "one user", "one IP"]
    return f"{title}\n{report.table(headers, rows)}\n\n{report.table(form_headers, of_forms)}"


def _three(found: Mapping[str, float], keys: tuple[str, ...]) -> str:
    return ", ".join(f"{found[k]:,.2f}" for k in keys)


def plots(figures: Mapping[str, Any]) -> dict[str, str]:
    """Draws the figures."""
    lakes = figures["lakes"]
    times = {lake: _total(found, "wall_s") for lake, found in lakes.items()}
    read = {lake: _total(found, "mb_read") for lake, found in lakes.items()}
    return {
        "reading-time": report.bars("Six questions, seconds", times, "s"),
        "reading-bytes": report.bars("Six questions, MB read", read, "MB"),
    }
