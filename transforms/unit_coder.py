"""How units travel between the stages: packed, as runners hold many of them at once."""

import pickle
import zlib

from apache_beam import coders

from transforms.elements import ContentUnit

_FASTEST = 1


class ContentUnitCoder(coders.Coder):
    """Encodes a unit; the ids and addresses of its blobs are much alike, and shrink to a fraction."""

    def encode(self, value: ContentUnit) -> bytes:
        """Encodes a unit."""
        return zlib.compress(pickle.dumps(value, pickle.HIGHEST_PROTOCOL), _FASTEST)

    def decode(self, encoded: bytes) -> ContentUnit:
        """Decodes a unit."""
        unit: ContentUnit = pickle.loads(zlib.decompress(encoded))  # noqa: S301 - the runner's own data
        return unit

    def is_deterministic(self) -> bool:
        """Equal units may have other bytes."""
        return False


def register_unit_coder() -> None:
    """Makes pipelines that are built from now on use it."""
    coders.registry.register_coder(ContentUnit, ContentUnitCoder)
