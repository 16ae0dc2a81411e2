"""Target: a blob's body becomes rows and rejects, and nothing of it is lost."""

import sys

from hypothesis import strategies as st

from schemas.decode import NotAnArrayError, split_blob
from tests.fuzz.mutations import mutated
from tests.schema_records import TABLES, Seen, canonical, decode, drifted_records, loads, spellings, straight_records

_RECORDS = st.sampled_from(TABLES).flatmap(lambda t: straight_records(t) | drifted_records(t))
_BODIES = st.builds(lambda spell, records: spell(records), spellings, st.lists(_RECORDS, max_size=4))
bodies = mutated(_BODIES)

_BETWEEN = frozenset(b" \t\r\n,[]")


def check_decoder(data: bytes) -> None:
    """Records are rows or rejects, each once; rows say what the record said, rejects hold its bytes."""
    try:
        raws = [bytes(raw) for raw in split_blob(data)]
    except NotAnArrayError:
        return
    _check_pieces(data.removeprefix(b"\xef\xbb\xbf"), raws)
    seen = decode(data)
    # What was decoded this deep in the stack must be rebuilt a little deeper, and compared deeper still.
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + 4000)
    try:
        _check_records(seen, raws)
    finally:
        sys.setrecursionlimit(limit)


def _check_records(seen: Seen, raws: list[bytes]) -> None:
    rejected = {reject.position: reject for reject in seen.rejects}
    assert len(rejected) == len(seen.rejects)
    assert sorted([*seen.rows, *rejected]) == list(range(len(raws)))
    for position, reject in rejected.items():
        assert reject.data == raws[position]
        assert reject.reason
    for position, value in zip(sorted(seen.rows), seen.rebuilt(), strict=True):
        assert value == canonical(loads(raws[position]))


def _check_pieces(data: bytes, raws: list[bytes]) -> None:
    """Nothing but blanks, commas and brackets of the array stands between the records."""
    at = 0
    for raw in raws:
        found = data.index(raw, at)
        assert set(data[at:found]) <= _BETWEEN
        at = found + len(raw)
    assert set(data[at:]) <= _BETWEEN
