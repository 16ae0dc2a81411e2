"""Records that could not become rows, kept whole in Avro container files under `rejected/`."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from io import BytesIO

import fastavro

from schemas.decode import Reject
from schemas.feed import ContentBlob

WHOLE_BODY = -1
"""Position of a reject that is the whole body of its blob."""
SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "RejectedRecord",
        "namespace": "auditlake",
        "doc": "A record of a content blob that could not become a row, with its exact bytes.",
        "fields": [
            {"name": "tenant", "type": "string"},
            {"name": "content_type", "type": "string"},
            {"name": "content_id", "type": "string"},
            {"name": "content_uri", "type": "string"},
            {"name": "content_created", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "position", "type": "long", "doc": "Index of the record in its blob, from 0; -1: its whole body."},
            {"name": "reason", "type": "string"},
            {"name": "data", "type": "bytes"},
        ],
    }
)


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """One rejected record: its blob, its place in it, why, and its bytes."""

    tenant: str
    content_type: str
    content_id: str
    content_uri: str
    content_created: datetime
    position: int
    reason: str
    data: bytes

    @classmethod
    def of(cls, tenant: str, blob: ContentBlob, reject: Reject) -> "RejectedRecord":
        """Joins what the decoder refused with the blob that it came from."""
        return cls(
            tenant=tenant,
            content_type=blob.content_type,
            content_id=blob.content_id,
            content_uri=blob.content_uri,
            content_created=blob.content_created,
            position=reject.position,
            reason=reject.reason,
            data=reject.data,
        )


def write_rejected(records: Iterable[RejectedRecord]) -> bytes:
    """Encodes rejected records as one Avro container file."""
    sink = BytesIO()
    fastavro.writer(sink, SCHEMA, [asdict(r) for r in records], codec="deflate")
    return sink.getvalue()


def read_rejected(data: bytes) -> Iterator[RejectedRecord]:
    """Decodes what `write_rejected` encoded.

    Raises:
      ValueError: The bytes are no such file.
    """
    try:
        for record in fastavro.reader(BytesIO(data), SCHEMA):
            yield RejectedRecord(**record)  # type: ignore[arg-type]
    except Exception as error:
        # fastavro names no errors for damage: any of Python's may come.
        raise ValueError(f"it is no Avro file of rejected records ({error!r:.200})") from error
