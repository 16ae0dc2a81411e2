"""Which record Ids a tenant's lake holds: sets of 128-bit keys in sorted arrays.

A GUID in its usual form is its own key; any other Id is keyed by a 128-bit hash. A million Ids take 16 MB, and a
look-up is a binary search.
"""

from hashlib import blake2b

import numpy as np
import pyarrow as pa

GUID_LENGTH = 36
_HYPHENS = (8, 13, 18, 23)
_DIGITS = tuple(n for n in range(GUID_LENGTH) if n not in _HYPHENS)
_NIBBLE = np.full(256, 255, np.uint8)
_NIBBLE[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16, dtype=np.uint8)

KEY = np.dtype("S16")  # numpy compares these as 16 raw bytes: short ones count as padded with zeros


def keys_of(ids: pa.StringArray) -> np.ndarray:
    """Gives the key of each Id, shape `(len(ids),)` of dtype KEY."""
    texts = ids.to_pylist()
    plain = [t if len(t) == GUID_LENGTH and t.isascii() else "" for t in texts]
    grid = np.frombuffer("".join(p or "-" * GUID_LENGTH for p in plain).encode(), np.uint8)
    grid = grid.reshape(len(texts), GUID_LENGTH)
    nibbles = _NIBBLE[grid[:, _DIGITS]]
    is_guid = (nibbles != 255).all(axis=1) & (grid[:, _HYPHENS] == ord("-")).all(axis=1)
    octets = (nibbles[:, 0::2] << 4) | (nibbles[:, 1::2] & 15)
    keys = np.ascontiguousarray(octets).view(KEY).reshape(len(texts)).copy()
    for row in np.flatnonzero(~is_guid):
        # A person tag keeps a hash apart from every GUID that could be made up to meet it.
        digest = blake2b(texts[row].encode(), digest_size=16, person=b"auditlake-id").digest()
        keys[row] = digest
    return keys


def first_of_each(keys: np.ndarray) -> np.ndarray:
    """Marks the first row of each key: a boolean array of the same length."""
    first = np.zeros(len(keys), bool)
    first[np.unique(keys, return_index=True)[1]] = True
    return first


class IdSet:
    """A growing set of keys: sorted runs, merged as they grow, so that adding n keys costs n log n in all."""

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def add(self, keys: np.ndarray) -> None:
        """Adds keys."""
        run = np.unique(keys)
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = np.union1d(self._runs.pop(), run)
        self._runs.append(run)

    def holds(self, keys: np.ndarray) -> np.ndarray:
        """Tells of each key whether it is in the set: a boolean array."""
        found = np.zeros(len(keys), bool)
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, keys), len(run) - 1) if len(run) else None
            if at is not None:
                found |= run[at] == keys
        return found
