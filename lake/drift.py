"""What landed records hold that the schemas do not declare: how often, since when, an example, and what would adopt it.

ledger ── counts by member and JSON type ──┐
rows ──── an example, values masked ───────┴─ Drift ── the .avsc line that adopts it
generic ─ record types of no family ────────┘
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from lake import layout
from lake.committed import read_committed, read_steadily
from lake.entries import DriftState, State
from lake.ledger import read_states
from lake.query import run_query
from lake.storage import Storage
from lake.text_table import one_line, text_table
from schemas.contract import record_types
from schemas.fit import BrokenRecordError, members
from schemas.model import Table, tables
from schemas.times import format_utc

RECORD_TYPE = "record type"
_AVRO: dict[str, Any] = {
    "string": "string",
    "integer": "long",
    "number": "double",
    "boolean": "boolean",
    "object": {"type": "string", "logicalType": "json"},
    "array": {"type": "string", "logicalType": "json"},
}
_EXAMPLE_CHARS = 80
SHOWN = 40
_SOURCE = "observed in a lake"


@dataclass(frozen=True, slots=True)
class Drift:
    """Something that no schema declares.

    `member` is the member's path, or the number of a record type where `json_type` is `record type`; `first` and `last`
    are when records with it were landed, for a record type when they happened. `adopt` is the line that would declare
    it, in the table's .avsc or in record_types.csv; None where there is none to give.
    """

    table: str
    member: str
    json_type: str
    count: int
    first: datetime
    last: datetime
    example: str | None
    adopt: str | None


def drift(storage: Storage) -> list[Drift]:
    """Finds the drift of a lake, the most frequent first.

    Raises:
      LakeError: There is no lake, or it cannot be read.
    """
    found = [*read_steadily(lambda: read_states(storage), lambda s: _members(storage, s)), *_record_types(storage)]
    return sorted(found, key=lambda d: (-d.count, d.table, d.member))


def _members(storage: Storage, states: Mapping[str, State]) -> list[Drift]:
    seen: dict[tuple[str, str, str], DriftState] = {}
    for state in states.values():
        for what, one in state.drift.items():
            known = seen.setdefault(what, DriftState(0, one.first, one.last))
            known.count += one.count
            known.first, known.last = min(known.first, one.first), max(known.last, one.last)
    examples = _examples(storage, states.values(), seen)
    found = []
    for (table, member, json_type), one in seen.items():
        if table in tables() and not is_declared(tables()[table], member, json_type):
            adopt = adopting_line(tables()[table], member, json_type)
            example = examples.get((table, member, json_type))
            found.append(Drift(table, member, json_type, one.count, one.first, one.last, example, adopt))
    return found


def is_declared(table: Table, member: str, json_type: str) -> bool:
    """Tells whether today's schema declares a top-level member with this JSON type: it was adopted since."""
    field = next((f for f in table.avro["fields"] if f["name"] == member), None)
    if field is None or json_type not in _AVRO:
        return False
    branches = field["type"] if isinstance(field["type"], list) else [field["type"]]
    return _AVRO[json_type] in branches


def adopting_line(table: Table, member: str, json_type: str) -> str | None:
    """Gives the field of the table's .avsc that would declare a member with this JSON type too.

    None for what stands inside another member, stands twice, or is of no type.
    """
    if json_type not in _AVRO:
        return None
    new = _AVRO[json_type]
    field = next((f for f in table.avro["fields"] if f["name"] == member), None)
    if field is not None:
        branches = field["type"] if isinstance(field["type"], list) else [field["type"]]
        # The stored form stays the first after null: rows that stand keep their column.
        return json.dumps(field | {"type": [*branches, new]}, ensure_ascii=False)
    if any(member.startswith((f"{c.name}.", f"{c.name}[]")) for c in table.columns):
        return None
    line = {"name": member, "type": ["null", new], "default": None, "doc": "", "source": _SOURCE}
    return json.dumps(line, ensure_ascii=False)


def _examples(
    storage: Storage, states: Iterable[State], wanted: Iterable[tuple[str, str, str]]
) -> dict[tuple[str, str, str], str]:
    """Looks through the rows, the newest files first, until there is an example of all."""
    missing = set(wanted)
    found: dict[tuple[str, str, str], str] = {}
    for state in states:
        for file in reversed(state.files.values()):
            where = layout.partition_of(file.ref.key)
            here = {w for w in missing if where is not None and w[0] == where[0]}
            if not here:
                continue
            extras = read_committed(storage, file.ref, ["_extra"])["_extra"].drop_null()
            for extra in extras.to_pylist():
                for what, text in _matches(here, extra):
                    found[what] = text
                    missing.discard(what)
                    here.discard(what)
                if not here:
                    break
    return found


def _matches(wanted: set[tuple[str, str, str]], extra: str) -> Iterator[tuple[tuple[str, str, str], str]]:
    try:
        held = list(members(extra))
    except BrokenRecordError:
        return
    for what in list(wanted):
        for member in held:
            path = what[1]
            if path == member.key or path.startswith((f"{member.key}.", f"{member.key}[]")):
                yield what, masked(member.raw)
                break


def masked(raw: str) -> str:
    """Gives JSON text with its values made unreadable: letters are x, digits 9; names, true, false and null stay."""
    text = json.dumps(_mask(json.loads(raw)), ensure_ascii=False)
    return text if len(text) <= _EXAMPLE_CHARS else text[: _EXAMPLE_CHARS - 1] + "…"


def _mask(value: Any) -> Any:
    if isinstance(value, str):
        return "".join("x" if c.isalpha() else "9" if c.isdigit() else c if c.isascii() else "x" for c in value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return 9
    if isinstance(value, dict):
        return {name: _mask(v) for name, v in value.items()}
    return [_mask(v) for v in value]


def _record_types(storage: Storage) -> Iterator[Drift]:
    sql = (
        "SELECT RecordType, count(*), min(CreationTime), max(CreationTime), min(Workload), min(_content_type)"
        ' FROM "generic" WHERE RecordType IS NOT NULL GROUP BY ALL'
    )
    for batch in run_query(storage, sql).batches:
        rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
        for number, count, first, last, workload, content_type in rows:
            if number not in record_types():
                adopt = f"{number},{workload or ''},generic,{content_type},{_SOURCE}"
                yield Drift("generic", str(number), RECORD_TYPE, count, first, last, None, adopt)


def to_json(found: Iterable[Drift]) -> list[dict[str, object]]:
    """Gives drift as JSON objects; times are ISO 8601."""
    return [{n: format_utc(v) if isinstance(v, datetime) else v for n, v in asdict(d).items()} for d in found]


def describe(found: list[Drift]) -> str:
    """Gives drift as a person reads it."""
    if not found:
        return "no drift: the schemas declare everything that was landed"
    rows = [
        (d.table, d.member, d.json_type, d.count, _time(d.first), _time(d.last), d.example or "-")
        for d in found[:SHOWN]
    ]
    lines = text_table(("table", "member", "seen as", "count", "first", "last", "example, masked"), rows)
    if len(found) > SHOWN:
        lines.append(f"and {len(found) - SHOWN:,} more: --json lists them all")
    lines += [
        "",
        "what would adopt it, in schemas/avro/<table>.avsc (record types in schemas/tables/record_types.csv):",
    ]
    lines += [f"  {d.table}: {one_line(d.adopt)}" for d in found[:SHOWN] if d.adopt]
    return "\n".join(lines)


def _time(time: datetime) -> str:
    return format_utc(time.replace(microsecond=0))
