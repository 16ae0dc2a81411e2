"""Random content of a tenant: blobs of every size, late, pending, expiring; records odd, broken, repeated, at odds."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

from emulator.content import Blob, content_type_of, make_blob
from emulator.generate import generate
from emulator.tenant import Tenant
from tests.chaos.plan import Plan

_AHEAD = timedelta(hours=40)  # content that becomes available when the clock is moved on
_TICK = timedelta(hours=1)
_FIRST_NUMBER = 100_000
_SIFTED = 40  # so many are made for each that is kept: the rarest type is one in forty


@dataclass(frozen=True, slots=True)
class Fates:
    """Shares of a tenant's records and blobs, drawn for it."""

    odd: float
    broken: float
    repeated: float
    conflicting: float
    late: float
    pending: float
    expiring: float


def fill(tenant: Tenant, plan: Plan, number: int) -> None:
    """Gives a tenant its content."""
    rng = Random(f"chaos/{plan.seed}/content/{number}")
    fates = Fates(*(rng.choice((0.0, 0.02, 0.1, 0.4)) * scale for scale in (1, 1, 1, 0.5, 1, 0.7, 0.5)))
    by_type: dict[str, list[dict[str, Any]]] = {name: [] for name in plan.content_types}
    start = plan.anchor - timedelta(hours=plan.hours + 2)
    found = [
        dict(record)
        for record in generate(
            rng.getrandbits(32), plan.records * _SIFTED, start=start, end=plan.anchor, tenant_id=tenant.tenant_id
        )
        if content_type_of(record.get("RecordType"), record.get("Workload")) in by_type
    ]
    for at in sorted(rng.sample(range(len(found)), min(plan.records, len(found)))):
        by_type[content_type_of(found[at].get("RecordType"), found[at].get("Workload"))].append(found[at])
    for offset, (content_type, records) in enumerate(by_type.items()):
        lines = list(_lines(rng, records, fates))
        tenant.add(list(_blobs(rng, content_type, lines, fates, plan, tenant, _FIRST_NUMBER * (offset + 1))))


def _lines(rng: Random, records: Sequence[dict[str, Any]], fates: Fates) -> Iterator[bytes]:
    """Yields records in their order, and what follows of them: repeats and conflicts some way behind."""
    waiting: list[tuple[int, dict[str, Any]]] = []
    for place, record in enumerate(records):
        if rng.random() < fates.odd:
            record |= rng.choice(_ODD)(rng)
        if rng.random() < fates.broken:
            yield _broken(rng, record)
        yield _write(rng, record)
        chance = rng.random()
        if chance < fates.conflicting:
            waiting.append((place + rng.randint(0, 60), record | rng.choice(_CHANGES)(rng)))
        elif chance < fates.conflicting + fates.repeated:
            waiting.append((place + rng.randint(0, 60), record))
        for due, again in list(waiting):
            if due <= place:
                waiting.remove((due, again))
                yield _write(rng, again)
    for _, again in waiting:
        yield _write(rng, again)


def _write(rng: Random, record: dict[str, Any]) -> bytes:
    """Writes a record; its JSON may look different each time and mean the same."""
    members = list(record.items())
    if rng.random() < 0.05:
        rng.shuffle(members)
    text = json.dumps(dict(members), ensure_ascii=rng.random() < 0.2, separators=rng.choice(((",", ":"), (", ", ": "))))
    return text.encode()


_ODD = (
    lambda rng: {"ChaosBig": rng.choice((2**63, -(2**64), 10**30))},
    lambda rng: {"ChaosFloat": rng.choice((0.1 + 0.2, 1e300, -0.0, 1.0))},
    lambda rng: {"ChaosNested": {"a": [1, None, {"b": "ü\u2028"}], "": {}}},
    lambda rng: {"UserId": rng.choice((5, None, ["x"], {"k": True}))},
    lambda rng: {"RecordType": rng.choice(("2", 9999, None, "Exchange", 6.5))},
    lambda rng: {"Operation": "x" * rng.choice((0, 1, 70_000))},
    lambda rng: {"Id": f"no guid {rng.getrandbits(64)} 日本"},
)
_CHANGES = (
    lambda rng: {"Operation": f"Changed{rng.getrandbits(16)}"},
    lambda rng: {"RecordType": rng.choice((2, 6, 15, 25, 9999))},
    lambda rng: {"ChaosNew": rng.random()},
    lambda rng: {"CreationTime": f"2026-11-{rng.randint(15, 19)}T{rng.randint(0, 23):02}:00:00"},
)


def _broken(rng: Random, record: dict[str, Any]) -> bytes:
    less = {key: value for key, value in record.items() if key not in ("Id", "CreationTime")}
    either = rng.choice(
        (
            42,
            None,
            "text",
            [record],
            {},
            less,
            less | {"Id": "x"},
            less | {"Id": None, "CreationTime": "2026-11-20T00:00:00"},
        )
    )
    if isinstance(either, dict) and either.get("Id") == "x":
        either |= {"CreationTime": rng.choice((None, "soon", 5))}
    return json.dumps(either).encode()


def _blobs(
    rng: Random, content_type: str, lines: list[bytes], fates: Fates, plan: Plan, tenant: Tenant, first: int
) -> Iterator[Blob]:
    parts = []
    while lines:
        size = 1 + int(plan.max_blob * rng.random() ** 2)
        parts.append(lines[:size])
        lines = lines[size:]
    if rng.random() < 0.3:
        parts.insert(rng.randint(0, len(parts)), [])
    span = timedelta(hours=plan.hours) + (_AHEAD if rng.random() < 0.5 else timedelta())
    start = plan.anchor - timedelta(hours=plan.hours)
    times = sorted(_moment(rng, start, span) for _ in parts)
    for number, (part, created) in enumerate(zip(parts, times, strict=True), first):
        available_at = _appearance(rng, created, fates, plan.anchor)
        yield make_blob(
            content_type,
            part,
            created,
            number=number,
            datacentre=tenant.datacentre,
            available_at=available_at,
            expiration=_expiration(rng, max(created, available_at), fates, plan.anchor),
        )


def _moment(rng: Random, start: datetime, span: timedelta) -> datetime:
    moment = start + rng.random() * span
    if rng.random() < 0.05:
        moment = moment.replace(minute=0, second=0, microsecond=0)
    elif rng.random() < 0.03:
        moment = moment.replace(minute=0, second=0, microsecond=0) + _TICK - timedelta(milliseconds=1)
    return max(moment, start)


def _appearance(rng: Random, created: datetime, fates: Fates, anchor: datetime) -> datetime:
    chance = rng.random()
    if chance < fates.late:
        return created + timedelta(minutes=rng.uniform(1, 600))
    if chance < fates.late + fates.pending and created < anchor:
        later = rng.choice((timedelta(seconds=rng.uniform(0.1, 6)), timedelta(hours=rng.uniform(0.1, 40))))
        return anchor + later
    return created


def _expiration(rng: Random, available: datetime, fates: Fates, anchor: datetime) -> datetime | None:
    if rng.random() >= fates.expiring:
        return None
    near = anchor + rng.choice((timedelta(seconds=rng.uniform(-3600, 10)), timedelta(hours=rng.uniform(0, 60))))
    return max(available, near)
