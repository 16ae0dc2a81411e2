"""What a script of faults may say: its keys, and what their values must be."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from emulator.errors import MESSAGES
from emulator.fault_answers import KINDS, PLACES, Kind
from emulator.shape import BROKEN_KINDS, Shape
from schemas.contract import content_types

Check = tuple[Callable[[object], bool], str]

HOW_OFTEN = ("share", "every", "first")
_HOURS_OF = ("from_hours", "until_hours")
_OF_REQUESTS = ("where", "content_type", "tenant", "next_page", "addresses", "times")
_STATUSES = frozenset(range(200, 600)) - {204, 205, 304}
_MOST_MB = 1024


def check_fault(begin: str, table: Mapping[str, Any]) -> Kind:
    """Checks a `[[fault]]` table; returns its kind.

    Raises:
      ValueError: It says something that no fault understands.
    """
    name = table.get("what")
    if not isinstance(name, str) or name not in KINDS:
        raise ValueError(f"{begin}: what is {_shown(name)}, expected one of {', '.join(KINDS)}")
    kind = KINDS[name]
    known = ("what", *(_OF_REQUESTS if kind.places else ()), *HOW_OFTEN, *_HOURS_OF, *kind.needs, *kind.takes)
    check_table(begin, table, {key: _FAULT[key] for key in known}, f" for {name}")
    for key in kind.needs:
        if key not in table:
            raise ValueError(f"{begin}: {key} is missing, expected {_FAULT[key][1]} for {name}")
    often = [key for key in HOW_OFTEN if key in table]
    if len(often) > 1:
        raise ValueError(f"{begin}: {often[1]} stands beside {often[0]}, expected one of {', '.join(HOW_OFTEN)}")
    if table.get("from_hours", 0) > table.get("until_hours", _FOREVER):
        raise ValueError(f"{begin}: from_hours is {table['from_hours']!r}, expected no more than until_hours")
    if not all(place in kind.places for place in places_of(table, kind)):
        shown = _shown(table["where"])
        raise ValueError(f"{begin}: where is {shown}, expected some of {', '.join(kind.places)} for {name}")
    return kind


def places_of(table: Mapping[str, Any], kind: Kind) -> Sequence[str]:
    """Reads `where` of a table."""
    places = table.get("where", kind.places)
    return [places] if isinstance(places, str) else places


def check_table(begin: str, table: object, checks: Mapping[str, Check], what_for: str = "") -> Mapping[str, Any]:
    """Checks the keys of a table and their values.

    Raises:
      ValueError: It is no table, a key is unknown, or a value is not what it must be.
    """
    if not isinstance(table, dict):
        raise ValueError(f"{begin} is {_shown(table)}, expected a table")  # noqa: TRY004 - a mistake in a file
    for key, value in table.items():
        if key not in checks:
            raise ValueError(f"{begin}: {key} is unknown{what_for}, expected some of {', '.join(checks)}")
        check, expected = checks[key]
        if not check(value):
            raise ValueError(f"{begin}: {key} is {_shown(value)}, expected {expected}")
    return table


def is_whole(value: object, least: int | None = None) -> bool:
    """Tells whether a value is a whole number, and no less than this."""
    return isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least)


def _is_number(value: object, most: float, least: float = 0) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _is_one_of(value: object, names: Mapping[str, object]) -> bool:
    return isinstance(value, str) and value in names


def _is_some_of(value: object, names: Sequence[str]) -> bool:
    return isinstance(value, list) and value != [] and all(each in names for each in value)


def _is_places(value: object) -> bool:
    places = [value] if isinstance(value, str) else value
    return isinstance(places, list) and places != [] and all(isinstance(place, str) for place in places)


def _is_hours(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 2 or not all(_is_number(each, 1000) for each in value):
        return False
    return bool(0 < value[0] <= value[1])


def _is_sizes(value: object) -> bool:
    return isinstance(value, list) and all(_is_number(each, _MOST_MB, 0.001) for each in value)


def _shown(value: object) -> str:
    return "missing" if value is None else repr(value)


_FOREVER = 24 * 366
_SHARE: Check = (lambda value: _is_number(value, 1), "a number from 0 to 1")
_DAYS: Check = (lambda value: _is_number(value, 100), "days from 0 to 100")
_HOURS: Check = (_is_hours, "two numbers of hours above 0, like [0.1, 6]")
_FROM_1: Check = (lambda value: is_whole(value, 1), "a whole number of 1 or more")
_TIME: Check = (
    lambda value: _is_number(value, _FOREVER, -_FOREVER),
    "hours after the anchor, or before it if negative",
)
_BOOLEAN: Check = (lambda value: isinstance(value, bool), "true or false")
_FAULT: Mapping[str, Check] = {
    "what": (lambda value: _is_one_of(value, KINDS), "a fault"),
    "where": (_is_places, f"some of {', '.join(PLACES)}"),
    "content_type": (lambda value: _is_one_of(value, content_types()), f"one of {', '.join(content_types())}"),
    "tenant": (lambda value: is_whole(value, 0), "a tenant's number from 0"),
    "share": _SHARE,
    "every": _FROM_1,
    "first": _FROM_1,
    "times": _FROM_1,
    "addresses": _SHARE,
    "next_page": _BOOLEAN,
    "from_hours": _TIME,
    "until_hours": _TIME,
    "items": _SHARE,
    "seconds": (lambda value: _is_number(value, 3600), "seconds from 0 to 3600"),
    "retry_after": (lambda value: is_whole(value, 0), "whole seconds of 0 or more"),
    "code": (lambda value: _is_one_of(value, MESSAGES), f"one of {', '.join(MESSAGES)}"),
    "status": (lambda value: is_whole(value) and value in _STATUSES, "an HTTP status that has a body, 200 to 599"),
}
_OTHER_CONTENT: Mapping[str, Check] = {
    "days": _DAYS,
    "ahead_days": _DAYS,
    "max_records": _FROM_1,
    "late_hours": _HOURS,
    "pending_hours": _HOURS,
    "pending_days": _DAYS,
    "redelivered_days": _DAYS,
    "broken_kinds": (lambda value: _is_some_of(value, BROKEN_KINDS), f"some of {', '.join(BROKEN_KINDS)}"),
    "oversized_mb": (_is_sizes, f"sizes in megabytes up to {_MOST_MB}, like [1.5, 68]"),
}
CONTENT: Mapping[str, Check] = {each.name: _OTHER_CONTENT.get(each.name, _SHARE) for each in fields(Shape)}
SERVICE: Mapping[str, Check] = {
    "page_size": _FROM_1,
    "token_lifetime_s": _FROM_1,
    "strict_day": _BOOLEAN,
    "parts": _BOOLEAN,
}
