"""What records do that their schema does not say: each kind seen on the wire, none of it breaks a record.

Members are replaced, never changed in place: records share nested values.
"""

from collections import deque
from collections.abc import Callable

from emulator.draw import Draw
from emulator.scene import Record

# One character of every plane of Unicode, a combining mark, a joiner and a change of direction; no lone surrogate.
ALL_PLANES = "e\u0301 \u200d \u202b" + "".join(chr(plane * 0x10000 + 0x1F4C4 % 0x10000) for plane in range(17))
_NEVER_NULL = {"CreationTime", "Id", "RecordType", "OrganizationId", "Operation", "Workload"}

Drift = Callable[[Record, Draw], bool]


class Drifter:
    """Lets one record drift, by the kind that waited longest and fits: even a short run shows them all."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._kinds = deque(KINDS)

    def drift(self, record: Record) -> None:
        """Changes the record in one way."""
        for kind in tuple(self._kinds):
            if kind(record, self._draw):
                self._kinds.remove(kind)
                self._kinds.append(kind)
                return


def _put(record: Record, name: str, value: object) -> bool:
    if name not in record:
        return False
    record[name] = value
    return True


def user_type_as_text(record: Record, _: Draw) -> bool:
    """UserType "0"."""
    return _put(record, "UserType", str(record["UserType"]))


def user_type_missing(record: Record, _: Draw) -> bool:
    """No UserType at all."""
    return record.pop("UserType", None) is not None


def record_type_as_text(record: Record, _: Draw) -> bool:
    """RecordType "6"."""
    return _put(record, "RecordType", str(record["RecordType"]))


def time_with_zone(record: Record, _: Draw) -> bool:
    """CreationTime with Z."""
    return _put(record, "CreationTime", f"{record['CreationTime']}Z")


def extended_properties_as_text(record: Record, draw: Draw) -> bool:
    """ExtendedProperties as one string."""
    return _put(
        record, "ExtendedProperties", draw.pick(("", "[]", '[{"Name":"extendedAuditEventCategory","Value":"User"}]'))
    )


def modified_properties_as_object(record: Record, _: Draw) -> bool:
    """ModifiedProperties as one object."""
    return _put(record, "ModifiedProperties", {"Name": "SiteAdmin", "NewValue": "", "OldValue": ""})


def modified_properties_as_names(record: Record, _: Draw) -> bool:
    """ModifiedProperties as plain strings, on other records than mailbox ones."""
    return record["RecordType"] != 2 and _put(record, "ModifiedProperties", ["AccountEnabled", "DisplayName"])


def parameters_as_text(record: Record, _: Draw) -> bool:
    """Parameters as one string, on Exchange cmdlets."""
    return record["RecordType"] == 1 and _put(record, "Parameters", '-Identity "all" -Force "True"')


def operation_properties_as_text(record: Record, _: Draw) -> bool:
    """OperationProperties as the text "[]"."""
    return record["RecordType"] != 20 and _put(record, "OperationProperties", "[]")


def external_access_as_text(record: Record, _: Draw) -> bool:
    """ExternalAccess "True"."""
    return _put(record, "ExternalAccess", str(record.get("ExternalAccess")))


def size_as_text(record: Record, draw: Draw) -> bool:
    """FileSizeBytes "1e9"."""
    return _put(record, "FileSizeBytes", draw.pick(("1000.0", "1e9", "52428800")))


def huge_number(record: Record, draw: Draw) -> bool:
    """A count past 32 bits, at times past 53."""
    name = next((n for n in ("FileSizeBytes", "OperationCount", "ItemCount") if n in record), "")
    return _put(record, name, (1 << draw.pick((31, 40, 53))) + draw.below(1 << 30))


def address_empty(record: Record, _: Draw) -> bool:
    """ClientIP of no characters."""
    return _put(record, "ClientIP", "")


def address_odd(record: Record, draw: Draw) -> bool:
    """ClientIP with port, mapped, or no address at all."""
    return _put(
        record,
        "ClientIP",
        draw.pick(("<null>", "[2001:db8::7]:443", "::ffff:203.0.113.9", "203.0.113.9:50123", "fe80::1%eth0")),
    )


def member_null(record: Record, draw: Draw) -> bool:
    """A member that is there, and null."""
    names = [name for name in record if name not in _NEVER_NULL]
    return _put(record, draw.pick(names), None)


def member_unknown(record: Record, draw: Draw) -> bool:
    """A member that no schema names: text, number, object or array."""
    value: object = draw.pick(
        ("on", 7, True, {"Channel": "Preview", "Ring": [1, 2, {"Deep": None}]}, ["a", {"b": 1.5}])
    )
    record[f"Preview{draw.pick(('Context', 'Signal', 'Origin'))}"] = value
    return True


def name_respelt(record: Record, _: Draw) -> bool:
    """The documented spelling in place of the usual one."""
    for usual, other in (
        ("CrossMailboxOperation", "CrossMailboxOperations"),
        ("DataState", "Data State"),
        ("IntraSystemId", "IntraSystemsId"),
    ):
        if usual in record:
            record[other] = record.pop(usual)
            return True
    return False


def user_id_upper(record: Record, _: Draw) -> bool:
    """A UserId in capitals."""
    return _put(record, "UserId", str(record["UserId"]).upper())


def text_of_all_planes(record: Record, draw: Draw) -> bool:
    """A subject or file name from every plane of Unicode."""
    item, name = record.get("Item"), f"{ALL_PLANES} {draw.below(1000)}"
    if isinstance(item, dict) and "Subject" in item:
        return _put(record, "Item", item | {"Subject": name})
    return _put(record, "SourceFileName", f"{name}.docx")


KINDS: tuple[Drift, ...] = (
    user_type_as_text,
    extended_properties_as_text,
    modified_properties_as_object,
    modified_properties_as_names,
    parameters_as_text,
    operation_properties_as_text,
    external_access_as_text,
    size_as_text,
    huge_number,
    name_respelt,
    text_of_all_planes,
    address_empty,
    address_odd,
    time_with_zone,
    member_null,
    member_unknown,
    user_type_missing,
    record_type_as_text,
    user_id_upper,
)
