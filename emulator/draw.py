"""Fast seeded randomness: picks, chances, GUIDs and tokens, cut from blocks instead of drawn one by one."""

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from random import Random
from typing import TypeVar

_T = TypeVar("_T")
_BLOCK_BYTES = 12_288  # a multiple of 16 for GUIDs and of 3 for base64 without padding


class Draw:
    """Draws from one seeded stream. Not safe for use by several threads."""

    __slots__ = ("_bytes", "_hex", "_hex_at", "_token", "_token_at", "choices", "random")

    def __init__(self, seed: str) -> None:
        rng = Random(seed)  # noqa: S311 - sample data, not secrets
        self.random = rng.random
        self.choices = rng.choices
        self._bytes = rng.randbytes
        self._hex, self._hex_at = "", 0
        self._token, self._token_at = "", 0

    def pick(self, items: Sequence[_T]) -> _T:
        """Returns one of the items, all alike."""
        return items[int(self.random() * len(items))]

    def below(self, bound: int) -> int:
        """Returns a whole number from 0 to below the bound."""
        return int(self.random() * bound)

    def chance(self, share: float) -> bool:
        """Returns true in this share of the calls."""
        return self.random() < share

    def guid(self) -> str:
        """Returns a GUID of version 4."""
        h = self.hex(32)
        return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-9{h[17:20]}-{h[20:]}"

    def hex(self, length: int) -> str:
        """Returns lower-case hexadecimal digits, never the same stretch twice."""
        end = self._hex_at + length
        if end > len(self._hex):
            self._hex, end = self._bytes(_BLOCK_BYTES).hex(), length
        self._hex_at = end
        return self._hex[end - length : end]

    def token(self, length: int) -> str:
        """Returns text in the base64 alphabet, as opaque ids of the services are."""
        end = self._token_at + length
        if end > len(self._token):
            self._token, end = urlsafe_b64encode(self._bytes(_BLOCK_BYTES)).decode(), length
        self._token_at = end
        return self._token[end - length : end]
