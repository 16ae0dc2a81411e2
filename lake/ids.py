"""Which record Ids a tenant's lake holds: sets of 128-bit keys in sorted arrays.

A GUID in its usual form is its own key; any other Id is keyed by a 128-bit hash. A million Ids take 28 MB, and a
look-up is a binary search.
"""

from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

GUID_LENGTH = 36
_HYPHENS = (8, 13, 18, 23)
_DIGITS = tuple(n for n in range(GUID_LENGTH) if n not in _HYPHENS)
_NIBBLE = np.full(256, 255, np.uint8)
_NIBBLE[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16, dtype=np.uint8)

KEY = np.dtype("S16")  # numpy compares these as 16 raw bytes: short ones count as padded with zeros


def keys_of(ids: pa.StringArray) -> np.ndarray:
    """Gives the key of each Id, shape `(len(ids),)` of dtype KEY."""
    is_guid = pc.binary_length(ids).to_numpy() == GUID_LENGTH
    grid = _grid(ids if is_guid.all() else ids.filter(pa.array(is_guid)))
    nibbles = _NIBBLE[grid[:, _DIGITS]]
    is_guid[is_guid] = whole = (nibbles != 255).all(axis=1) & (grid[:, _HYPHENS] == ord("-")).all(axis=1)
    keys = np.empty(len(ids), KEY)
    octets = (nibbles[whole, 0::2] << 4) | nibbles[whole, 1::2]
    keys[is_guid] = np.ascontiguousarray(octets).view(KEY).reshape(-1)
    others = np.flatnonzero(~is_guid)
    for row, text in zip(others, ids.take(pa.array(others)).to_pylist(), strict=True):
        # A person tag keeps a hash apart from every GUID that could be made up to meet it.
        keys[row] = blake2b(text.encode(), digest_size=16, person=b"auditlake-id").digest()
    return keys


def _grid(ids: pa.StringArray) -> np.ndarray:
    """Gives the bytes of texts of GUID_LENGTH, a text a row."""
    _, bounds, data = ids.buffers()
    start = np.frombuffer(bounds, np.int32)[ids.offset] if len(ids) else 0
    text = np.frombuffer(data or b"", np.uint8)[start : start + GUID_LENGTH * len(ids)]
    return text.reshape(len(ids), GUID_LENGTH)


def first_of_each(keys: np.ndarray) -> np.ndarray:
    """Marks the first row of each key: a boolean array of the same length."""
    first = np.zeros(len(keys), bool)
    first[_firsts(keys)] = True
    return first


def _firsts(keys: np.ndarray) -> np.ndarray:
    """Names the first row of each key, in the order of the keys."""
    beginnings = _beginnings(keys)
    order = np.argsort(beginnings, kind="stable")
    again = np.flatnonzero(np.diff(beginnings[order]) == 0) + 1
    if (keys[order[again]] != keys[order[again - 1]]).any():  # no more than their beginnings are the same
        return np.unique(keys, return_index=True)[1]
    return np.delete(order, again)


class _Run(NamedTuple):
    """Sorted keys, how each begins, and its owner."""

    keys: np.ndarray
    beginnings: np.ndarray
    owners: np.ndarray


def _beginnings(keys: np.ndarray) -> np.ndarray:
    """Gives the first half of each key as a number: to search numbers is three times as fast, and mostly enough."""
    return keys.view(">u8")[::2].astype(np.uint64)


class IdSet:
    """A growing set of keys, each with the number of its owner; of two owners the later one counts.

    Sorted runs are merged as they grow, so that adding n keys costs n log n in all.
    """

    def __init__(self) -> None:
        self._runs: list[_Run] = []

    def __len__(self) -> int:
        return sum(len(run.keys) for run in self._runs)

    def add(self, keys: np.ndarray, owner: int | np.ndarray = 0) -> None:
        """Adds keys of one owner, or of an owner each; then no key may stand twice."""
        first = _firsts(keys)
        added = keys[first]
        owners = np.broadcast_to(np.asarray(owner, np.uint32), len(keys))[first]
        while self._runs and len(self._runs[-1].keys) < 2 * len(added):
            older = self._runs.pop()
            merged = np.concatenate([added, older.keys])
            first = _firsts(merged)  # of equal keys the later one is kept
            added, owners = merged[first], np.concatenate([owners, older.owners])[first]
        self._runs.append(_Run(added, _beginnings(added), owners))

    def holds(self, keys: np.ndarray) -> np.ndarray:
        """Tells of each key whether it is in the set: a boolean array."""
        return self.owners(keys) >= 0

    def owners(self, keys: np.ndarray) -> np.ndarray:
        """Gives the owner of each key, -1 where the set does not have it."""
        found = np.full(len(keys), -1, np.int64)
        beginnings = _beginnings(keys)
        for run in self._runs:  # the oldest first: what came later counts
            if not len(run.keys):
                continue
            last = len(run.keys) - 1
            near = np.minimum(np.searchsorted(run.beginnings, beginnings), last)
            maybe = np.flatnonzero(run.beginnings[near] == beginnings)
            at = np.minimum(np.searchsorted(run.keys, keys[maybe]), last)
            hit = run.keys[at] == keys[maybe]
            found[maybe[hit]] = run.owners[at[hit]]
        return found
