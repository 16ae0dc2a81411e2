"""How units travel between the stages: packed, as runners hold many of them at once."""

import pickle
import zlib

from apache_beam import coders

from transforms.elements import ContentUnit


class ContentUnitCoder(coders.Coder):
    """Encodes a unit; the ids and addresses of its blobs are much alike, and shrink to a fraction."""

    def encode(self, value: ContentUnit) -> bytes:
        """Encodes a unit."""
        return zlib.compress(pickle.dumps(value, pickle.HIGHEST_PROTOCOL), zlib.Z_BEST_SPEED)

    def decode(self, encoded: bytes) -> ContentUnit:
        """Decodes a unit."""
        unit: ContentUnit = pickle.loads(zlib.decompress(encoded))  # noqa: S301 - the runner's own data
        return unit


def register_unit_coder() -> None:
    """Makes pipelines that are built from now on use it."""
    coders.registry.register_coder(ContentUnit, ContentUnitCoder)
