"""From one record to its row, member by member, and from one value to its column: for what cannot be built by columns.

    raw record ── members ── fit each to its column ── row, `_extra`, drift
                                  └─ no object, no Id, no time: BrokenRecordError

`fit` is also the definition of what a column accepts; columns built of text must agree with it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from json.decoder import scanstring  # type: ignore[attr-defined]
from math import isfinite
from re import compile as regex
from typing import Any, NamedTuple, NoReturn

from schemas.model import Column, Table
from schemas.times import format_wire, parse_wire, to_micros

LONG = range(-(2**63), 2**63)
_SPACE = regex(r"[ \t\n\r]*+")


class BrokenRecordError(Exception):
    """A record that cannot become a row; `reason` is one word for it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class HugeInteger:
    """An integer that is beyond every column, kept as text so that no digit count can hurt."""

    text: str


class Pair(NamedTuple):
    """One entry of a name/value array."""

    name: str
    value: str | None


class Fitted(NamedTuple):
    """How a member's value fits its column.

    `stored` is what the column holds. Unless `exact`, the row needs the member's own text beside it. `misfits` lists
    (path, JSON type) of what the schema does not declare.
    """

    stored: Any
    exact: bool
    misfits: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class CarefulRow:
    """A row fitted member by member: stored values in column order, raw members for `_extra`, drift as (path, type)."""

    values: tuple[Any, ...]
    extra: dict[str, str]
    drift: list[tuple[str, str]] = field(default_factory=list)


def json_type(value: Any) -> str:
    """Names the JSON type of a parsed value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, HugeInteger)):
        return "integer"
    if isinstance(value, float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, dict) else "array"


def _integer(text: str) -> int | HugeInteger:
    return int(text) if len(text) <= 20 else HugeInteger(text)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


class Member(NamedTuple):
    """One member of a JSON object as it stands in the text: raw key and value, both JSON, and what they mean."""

    key: str
    value: Any
    raw_key: str
    raw: str
    repeats: bool


def members(text: str) -> Iterator[Member]:
    """Yields the members of the JSON object `text` in order, repeated ones too.

    Raises:
      BrokenRecordError: The text is not one JSON object.
    """
    try:
        yield from _members(text)
    except (ValueError, IndexError) as error:
        raise BrokenRecordError("invalid_json") from error
    except RecursionError as error:
        raise BrokenRecordError("nested_too_deeply") from error


def _decoder(repeated: list[bool]) -> json.JSONDecoder:
    """Makes a decoder that adds to `repeated` for each object in which a name stands twice."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        unique = dict(found)
        if len(unique) != len(found):
            repeated.append(True)
        return unique

    return json.JSONDecoder(object_pairs_hook=pairs, parse_int=_integer, parse_constant=_refuse_constant)


_SCALARS = _decoder([])


def _members(text: str) -> Iterator[Member]:
    repeated: list[bool] = []
    decoder = _decoder(repeated)
    at = _skip(text, 0)
    if text[at] != "{":
        decoder.decode(text)
        raise BrokenRecordError("not_an_object")
    at = _skip(text, at + 1)
    if text[at] == "}":
        _end(text, at + 1)
        return
    while True:
        _expect(text, at, '"')
        key, after = scanstring(text, at + 1, True)
        colon = _skip(text, after)
        _expect(text, colon, ":")
        start = _skip(text, colon + 1)
        repeated.clear()
        value, stop = decoder.raw_decode(text, start)
        yield Member(key, value, text[at:after], text[start:stop], bool(repeated))
        at = _skip(text, stop)
        if text[at] == "}":
            _end(text, at + 1)
            return
        _expect(text, at, ",")
        at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _expect(text: str, at: int, character: str) -> None:
    if text[at] != character:
        raise ValueError(f"expected {character!r} at {at}")


def _end(text: str, at: int) -> None:
    if _skip(text, at) != len(text):
        raise ValueError(f"text goes on at {at}")


def fit_record(table: Table, raw: bytes) -> CarefulRow:
    """Fits one record to its table.

    Raises:
      BrokenRecordError: It is not a JSON object, or has no usable Id or CreationTime.
    """
    try:
        return _fit_members(table, raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BrokenRecordError("invalid_utf8") from error
    except RecursionError as error:
        raise BrokenRecordError("nested_too_deeply") from error


def _fit_members(table: Table, text: str) -> CarefulRow:
    values: list[Any] = [None] * len(table.members)
    row = CarefulRow((), {})
    seen: dict[str, str] = {}
    for member in members(text):
        if member.key in seen:
            row.drift.append((_clean(member.key), "repeated"))
            row.extra.pop(seen[member.key], None)
        seen[member.key] = member.raw_key
        position = table.positions.get(member.key)
        fitted = _fit_member(None if position is None else table.members[position], member)
        if position is not None:
            values[position] = fitted.stored
        row.drift += fitted.misfits
        if not fitted.exact:
            row.extra[member.raw_key] = member.raw
    _require_key(table, values)
    row.values = tuple(values)
    return row


def fit_text(column: Column | None, name: str, text: str) -> Fitted:
    """Fits a member's value, given as JSON text, to its column; without one it is a misfit.

    Raises:
      RecursionError: It is nested too deeply.
    """
    repeated: list[bool] = []
    value = (_decoder(repeated) if text[0] in "{[" else _SCALARS).decode(text)
    return _fit_member(column, Member(name, value, name, text, bool(repeated)))


def _fit_member(column: Column | None, member: Member) -> Fitted:
    if column is None:
        fitted = Fitted(None, False, ((member.key, json_type(member.value)),))
    else:
        fitted = fit(column, member.value, member.raw)
    repeated = member.repeats and (column is None or column.kind != "json")
    if not fitted.misfits and not repeated:
        return fitted
    misfits = (*fitted.misfits, (member.key, "repeated")) if repeated else fitted.misfits
    return Fitted(fitted.stored, fitted.exact and not repeated, tuple((_clean(path), kind) for path, kind in misfits))


def _require_key(table: Table, values: list[Any]) -> None:
    if not values[table.positions["Id"]]:
        raise BrokenRecordError("no_id")
    if values[table.positions["CreationTime"]] is None:
        raise BrokenRecordError("no_creation_time")


def fit(column: Column, value: Any, raw: str) -> Fitted:
    """Fits a member's parsed value to its column."""
    if value is None:
        return Fitted(None, False, () if column.nullable else ((column.name, "null"),))
    fitted = _FIT[column.kind](column, value, raw)
    if fitted.misfits and any(not fit(other, value, raw).misfits for other in column.others):
        return fitted._replace(misfits=())
    return fitted


def _misfit(column: Column, value: Any, stored: Any = None) -> Fitted:
    return Fitted(stored, False, ((column.name, json_type(value)),))


def _fit_string(column: Column, value: Any, raw: str) -> Fitted:
    if not isinstance(value, str):
        # The text of another type is searchable; an Id must be a string to be a key.
        return _misfit(column, value, raw if column.nullable else None)
    if value.isascii() or _encodable(value):
        return Fitted(value, True)
    return Fitted(value.encode("utf-8", "replace").decode() if column.nullable else None, False)


def _encodable(value: str) -> bool:
    """False where the string holds half a surrogate pair, which no UTF-8 can carry."""
    return not any("\ud800" <= c <= "\udfff" for c in value)


def _fit_long(column: Column, value: Any, _raw: str) -> Fitted:
    if isinstance(value, int) and not isinstance(value, bool) and value in LONG:
        return Fitted(value, True)
    readable = isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit() and len(value) < 19
    return _misfit(column, value, int(value) if readable else None)


def _fit_boolean(column: Column, value: Any, _raw: str) -> Fitted:
    if isinstance(value, bool):
        return Fitted(value, True)
    named = {"true": True, "false": False}
    return _misfit(column, value, named.get(value.lower()) if isinstance(value, str) else None)


def _fit_double(column: Column, value: Any, raw: str) -> Fitted:
    if json_type(value) not in ("integer", "number"):
        return _misfit(column, value)
    number = float(raw)
    return Fitted(number if isfinite(number) else None, is_exact(number, raw))


def is_exact(number: float, text: str) -> bool:
    """False where the JSON number `text` has digits that its nearest double does not give back."""
    try:
        return isfinite(number) and Decimal(text) == Decimal(repr(number))
    except InvalidOperation:
        return False


def _fit_timestamp(column: Column, value: Any, _raw: str) -> Fitted:
    time = parse_wire(value) if isinstance(value, str) else None
    if time is None:
        return _misfit(column, value)
    return Fitted(to_micros(time), value == format_wire(time))


def _fit_json(column: Column, value: Any, raw: str) -> Fitted:
    return Fitted(raw, True) if isinstance(value, (dict, list)) else _misfit(column, value, raw)


def _fit_map(column: Column, value: Any, _raw: str) -> Fitted:
    name, content = column.wire
    if not isinstance(value, list) or not all(isinstance(e, dict) and isinstance(e.get(name), str) for e in value):
        return _misfit(column, value)
    entries: dict[str, str | None] = {}
    misfits: list[tuple[str, str]] = []
    exact = True
    for entry in value:
        text, seen = entry.get(content), entry[name]
        if set(entry) != {name, content}:
            misfits.append((f"{column.name}[]", "object"))
        elif not isinstance(text, (str, type(None))):
            misfits.append((f"{column.name}[].{content}", json_type(text)))
        kept = text if isinstance(text, (str, type(None))) else _dump(text)
        exact = exact and seen not in entries and _encodable(seen) and _encodable(kept or "")
        entries[_clean(seen)] = _clean(kept)
    return Fitted([Pair(n, v) for n, v in entries.items()], exact and not misfits, tuple(misfits))


def _dump(value: Any) -> str:
    """Gives JSON text for searching; the exact text of the whole member is in `_extra`."""
    return value.text if isinstance(value, HugeInteger) else json.dumps(value, default=lambda huge: huge.text)


def _clean(text: Any) -> Any:
    return text if text is None or _encodable(text) else text.encode("utf-8", "replace").decode()


def _fit_list(column: Column, value: Any, _raw: str) -> Fitted:
    if not isinstance(value, list):
        return _misfit(column, value)
    item = Column(f"{column.name}[]", column.item, True)
    fitted = _collect([_fit_item(item, v, column.item_nullable) for v in value])
    stored = fitted.stored if column.item_nullable else [s for s in fitted.stored if s is not None]
    return fitted._replace(stored=stored)


def _fit_item(item: Column, value: Any, nullable: bool) -> Fitted:
    if value is None:
        return Fitted(None, nullable, () if nullable else ((item.name, "null"),))
    return fit(item, value, _dump(value))


def _collect(parts: list[Fitted]) -> Fitted:
    misfits = tuple(m for p in parts for m in p.misfits)
    return Fitted([p.stored for p in parts], all(p.exact for p in parts), misfits)


def _fit_record(column: Column, value: Any, _raw: str) -> Fitted:
    if not isinstance(value, dict):
        return _misfit(column, value)
    known = {f.name for f in column.fields}
    parts = [_fit_field(f, value) for f in column.fields]
    unknown = tuple((f"{column.name}.{k}", json_type(v)) for k, v in value.items() if known and k not in known)
    misfits = tuple((f"{column.name}.{path}", kind) for p in parts for path, kind in p.misfits) + unknown
    return Fitted(tuple(p.stored for p in parts), not unknown and all(p.exact for p in parts), misfits)


def _fit_field(member: Column, value: dict[str, Any]) -> Fitted:
    if member.name not in value:
        return Fitted(None, True)
    return fit(member, value[member.name], _dump(value[member.name]))


def _fit_records(column: Column, value: Any, _raw: str) -> Fitted:
    if not isinstance(value, list):
        return _misfit(column, value)
    item = Column(f"{column.name}[]", "record", False, fields=column.fields)
    fitted = [fit(item, v, "") for v in value]
    if any(not isinstance(v, dict) for v in value):
        return Fitted(None, False, tuple(m for f in fitted for m in f.misfits))
    return _collect(fitted)


_FIT = {
    "string": _fit_string,
    "long": _fit_long,
    "boolean": _fit_boolean,
    "double": _fit_double,
    "timestamp": _fit_timestamp,
    "json": _fit_json,
    "map": _fit_map,
    "list": _fit_list,
    "record": _fit_record,
    "records": _fit_records,
}
