"""Data protection: matches on files (11), mail (13), devices (63); classification (33), labels (43, 93, 94, 97)."""

from emulator.scene import Maker, Record, Scene, pairs
from emulator.world import Site

# Public ids of built-in sensitive information types.
_TYPES = (
    ("Credit Card Number", "50842eb7-edc8-4019-85dd-5a5c1f2bb085", "4111 1111 1111 1111"),
    (
        "International Banking Account Number (IBAN)",
        "e7dc4711-11b7-4cb0-b88b-2c394a771f0e",
        "XX00 0000 0000 0000 0000 00",
    ),
    ("U.S. Social Security Number (SSN)", "a44669fe-0d48-453d-a9b1-2cc83f2cba77", "000-00-0000"),
)
_POLICIES = ("Financial data", "Personal data leaving the company", "Default policy for devices")
_NEVER = "0001-01-02T00:00:00"
_ENDPOINT_OPERATIONS = (
    "FileCopiedToRemovableMedia",
    "FileUploadedToCloud",
    "FilePrinted",
    "FileCopiedToClipboard",
    "FileRenamed",
)


def file_matched(scene: Scene) -> Record:
    """A rule matched a file; here the operation is spelt with three capitals."""
    site = scene.draw.pick(scene.world.sites) if scene.draw.chance(0.5) else scene.session.user.one_drive
    undo = scene.draw.chance(0.12)
    record = _match(scene, 11, "DlpRuleUndo" if undo else "DLPRuleMatch", site.workload)
    record["SharePointMetaData"] = metadata = _file_metadata(scene, site)
    record["ObjectId"] = metadata["FilePathUrl"]
    record["EvaluationSource"] = "FileUploaded"
    if undo:
        justified = {
            "Reason": "Override",
            "FalsePositive": False,
            "Justification": "Agreed with the owner",
            "Rules": [],
        }
        record["ExceptionInfo"] = justified if scene.draw.chance(0.5) else '{"Reason":"Override","FalsePositive":false}'
    return record


def mail_matched(scene: Scene) -> Record:
    """A rule matched a mail."""
    draw, world = scene.draw, scene.world
    record = _match(scene, 13, "DlpRuleMatch", "Exchange")
    to = [f"{draw.pick(world.users).upn.split('@')[0]}@{world.partner}" for _ in range(1 + draw.below(3))]
    record["ObjectId"] = message_id = f"<{draw.hex(32)}@{draw.pick(world.servers)}.deup301.prod.outlook.com>"
    record["ExchangeMetaData"] = {
        "BCC": [],
        "CC": [draw.pick(world.users).upn] if draw.chance(0.3) else [],
        "FileSize": 9_000 + draw.below(400_000),
        "From": scene.session.user.upn,
        "IsViewableByExternalUsers": True,
        "MessageID": message_id,
        "RecipientCount": len(to),
        "SensitivityLabelIds": [],
        "SensitivityLabelNames": [],
        "Sent": scene.at,
        "Subject": f"Payment details {draw.below(9_000)}",
        "To": to,
        "UniqueID": draw.guid(),
    }
    return record


def device_matched(scene: Scene) -> Record:
    """A rule matched on a device: workload Endpoint, a record of DLP.All."""
    record = _match(scene, 63, "DLPRuleMatch", "Endpoint")
    return record | _endpoint_members(scene)


def device_used(scene: Scene) -> Record:
    """What was done with a file on a device: the same number, but Audit.General."""
    record = scene.record(63, scene.draw.pick(_ENDPOINT_OPERATIONS), "Endpoint")
    return record | _endpoint_members(scene)


def file_classified(scene: Scene) -> Record:
    """Sensitive content found in a file, without a rule."""
    site = scene.draw.pick(scene.world.sites)
    return {
        **scene.service_record(33, "DlpInfo", site.workload, "DlpAgent"),
        "IncidentId": scene.draw.guid(),
        "SensitiveInfoDetectionIsIncluded": False,
        "SharePointMetaData": _file_metadata(scene, site),
        "PolicyDetails": [],
    }


def labelled_mail_sent(scene: Scene) -> Record:
    """A labelled mail in transport; DLP.All carries it."""
    draw, world = scene.draw, scene.world
    return {
        **scene.record(43, "MipLabel", "Exchange"),
        "ApplicationMode": "Standard",
        "ItemName": f"Contract {draw.below(9_000)}",
        "LabelAction": "None",
        "LabelAppliedDateTime": scene.at,
        "LabelId": world.ids[20],
        "LabelName": "Confidential",
        "ObjectId": f"<{draw.hex(32)}@{draw.pick(world.servers)}.deup301.prod.outlook.com>",
        "Receivers": [draw.pick(world.users).upn for _ in range(1 + draw.below(4))],
        "Sender": scene.session.user.upn,
    }


def label_used(scene: Scene) -> Record:
    """A labelled file opened or relabelled: the fields sit in nested objects."""
    draw, user = scene.draw, scene.session.user
    device, file = user.devices[0], draw.pick(user.one_drive.files)
    record_type, operation = draw.pick(
        ((93, "Access"), (93, "Discover"), (94, "LabelUpgraded"), (94, "LabelRemoved"), (97, "Heartbeat"))
    )
    record = scene.record(record_type, operation, "Aip") | {
        "ClientIP": scene.session.ip,
        "Scope": 1,
        "Common": {
            "ApplicationId": scene.session.app[1],
            "ApplicationName": "Microsoft Word",
            "DeviceName": device.name,
            "Location": "On-premises file shares",
            "Platform": 1,
            "ProcessName": "WINWORD",
            "ProductVersion": "1.18.62.0",
        },
    }
    if record_type == 97:
        return record
    label: Record = {"SensitivityLabelId": scene.world.ids[20]}
    if record_type == 94:
        label |= {"OldSensitivityLabelId": scene.world.ids[21], "LabelEventType": 1, "ActionSource": 3}
    return record | {
        "DataState": "Use",
        "ObjectId": f"C:\\Users\\{user.upn.split('@')[0]}\\Documents\\{file.name}",
        "ProtectionEventData": {"IsProtected": True, "ProtectionOwner": user.upn, "ProtectionType": "Template"},
        "SensitiveInfoTypeData": [],
        "SensitivityLabelEventData": label,
    }


def _match(scene: Scene, record_type: int, operation: str, workload: str) -> Record:
    draw = scene.draw
    rules = 30 if draw.chance(0.012) else 1 + (draw.random() < 0.15)  # rare records pass 32,000 characters
    included = draw.chance(0.5) or rules > 2
    return scene.record(record_type, operation, workload) | {
        "UserKey": "DlpAgent",
        "IncidentId": draw.guid(),
        "PolicyDetails": [
            {
                "PolicyId": scene.world.ids[22],
                "PolicyName": draw.pick(_POLICIES),
                "PolicyVersion": scene.world.ids[23],
                "Rules": [_rule(scene, included) for _ in range(rules)],
            }
        ],
        "SensitiveInfoDetectionIsIncluded": included,
    }


def _rule(scene: Scene, included: bool) -> Record:
    draw = scene.draw
    name, type_id, sample = draw.pick(_TYPES)
    count = 1 + draw.below(4)
    found: Record = {
        "Confidence": 85,
        "Count": count,
        "Location": "Message Body",
        "SensitiveInformationDetailedClassificationAttributes": [
            {"Confidence": level, "Count": count, "IsMatch": level == 85} for level in (65, 75, 85)
        ],
        "SensitiveInformationTypeName": name,
        "SensitiveType": type_id,
        "UniqueCount": count,
    }
    if included:
        around = (
            f"please charge {sample} before the end of the month, and confirm by return to the desk {draw.below(99)}"
        )
        values = pairs({sample: around})
        found["SensitiveInformationDetections"] = {"DetectedValues": values * count, "ResultsTruncated": False}
    return {
        "ActionParameters": [],
        "Actions": ["NotifyUser", "GenerateIncidentReport"],
        "ConditionsMatched": {
            "ConditionMatchedInNewScheme": True,
            "OtherConditions": pairs({"AccessScope": "NotInOrganization"}),
            "SensitiveInformation": [found],
        },
        "ManagementRuleId": scene.world.ids[24],
        "RuleId": draw.guid(),
        "RuleMode": draw.pick(("Enable", "Enable", "TestWithNotifyUser")),
        "RuleName": f"{name}, outside",
        "Severity": draw.pick(("Low", "Medium", "High")),
    }


def _file_metadata(scene: Scene, site: Site) -> Record:
    draw, user = scene.draw, scene.session.user
    file = draw.pick(site.files)
    return {
        "FileID": file.unique_id,
        "FileName": file.name,
        "FileOwner": user.display,
        "FilePathUrl": file.url,
        "FileSize": file.size_bytes,
        "From": user.upn,
        "IsViewableByExternalUsers": draw.chance(0.3),
        "IsVisibleOnlyToOdbOwner": False,
        "ItemCreationTime": f"2025-0{1 + draw.below(9)}-1{draw.below(10)}T08:30:00",
        "ItemLastModifiedTime": scene.at,
        "ItemLastSharedTime": _NEVER,
        "SensitivityLabelIds": [],
        "SensitivityLabelNames": [],
        "SharedBy": [None],
        "SiteAdmin": [],
        "SiteCollectionGuid": site.site_id,
        "SiteCollectionUrl": site.url,
        "UniqueID": file.unique_id,
    }


def _endpoint_members(scene: Scene) -> Record:
    device, file = scene.session.user.devices[0], scene.draw.pick(scene.session.user.one_drive.files)
    return {
        "ClientIP": scene.session.ip,
        "ObjectId": f"C:\\Users\\{scene.session.user.upn.split('@')[0]}\\Documents\\{file.name}",
        "Application": "explorer.exe",
        "DeviceName": device.name,
        "EndpointMetaData": {
            "DeviceName": device.name,
            "EnforcementMode": "Audit",
            "FileExtension": file.extension,
            "FileType": "Unknown",
            "RemovableMediaDeviceAttributes": None,
            "SensitiveInformation": [],
        },
        "FileExtension": file.extension,
        "FileSize": file.size_bytes,
        "MDATPDeviceId": device.id.replace("-", ""),
        "Platform": 1,
        "Sha256": scene.draw.hex(64),
    }


WEIGHTS: dict[Maker, float] = {
    file_matched: 1.3,
    mail_matched: 1.0,
    device_matched: 0.1,
    device_used: 0.6,
    file_classified: 0.1,
    labelled_mail_sent: 0.4,
    label_used: 0.4,
}
