"""What the feed lists: content blobs."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ContentBlob:
    """One listed blob of audit records.

    Source: Management Activity API reference, "List available content".
    """

    content_id: str
    content_uri: str
    content_type: str
    content_created: datetime
    content_expiration: datetime
