"""Exchange records: admin cmdlets (1), items (2), groups of items (3), MailItemsAccessed (50)."""

from emulator.scene import EXCHANGE_ONLINE, GRAPH, Maker, Record, Scene, pairs

_SUBJECTS = [
    "Budget review {}",
    "Re: Contract {}",
    "FW: Invoice {}",
    "Team lunch on floor {}",
    "Re: Re: Launch plan, step {}",
    "Minutes of week {}",
    "Your order {} has shipped",
    "Angebot {} für die Überholung",
    "Re: résumé n° {}",
    "会議のお知らせ {}",
    "Ticket {} was updated",
    "Weekly report {}",
]
_ITEM_OPERATIONS = ("Create",) * 5 + ("Send",) * 4 + ("Update",) * 4 + ("SendAs", "SendOnBehalf", "AttachmentAccess")
_SYSTEM_KEY = "NT AUTHORITY\\SYSTEM (Microsoft.Exchange.ServiceHost)"
_QUOTAS = {
    "ProhibitSendQuota": "99 GB (106,300,440,576 bytes)",
    "IssueWarningQuota": "98 GB (105,226,698,752 bytes)",
    "RecoverableItemsQuota": "30 GB (32,212,254,720 bytes)",
    "UseDatabaseQuotaDefaults": "False",
}
_CMDLETS: tuple[tuple[str, dict[str, str]], ...] = (
    (
        "Set-Mailbox",
        {"Force": "True", "HiddenFromAddressListsEnabled": "False", "SCLDeleteEnabled": "False", **_QUOTAS},
    ),
    ("Set-MailboxPlan", {"MaxSendSize": "35 MB (36,700,160 bytes)", "RetainDeletedItemsFor": "14.00:00:00", **_QUOTAS}),
    ("Set-CASMailbox", {"ImapEnabled": "False", "PopEnabled": "False", "ActiveSyncEnabled": "True"}),
    ("Add-MailboxPermission", {"AccessRights": "FullAccess", "InheritanceType": "All", "AutoMapping": "True"}),
    (
        "Set-TransportConfig",
        {"SmtpClientAuthenticationDisabled": "True", "MaxReceiveSize": "150 MB (157,286,400 bytes)"},
    ),
    ("Set-InboxRule", {"Name": "Newsletters", "MoveToFolder": "Archive", "StopProcessingRules": "True"}),
    ("New-TransportRule", {"Name": "External sender", "FromScope": "NotInOrganization", "Mode": "Enforce"}),
    ("Set-User", {"StsRefreshTokensValidFrom": "2026-01-01T00:00:00", "Force": "True"}),
    ("Set-OwaMailboxPolicy", {"WacExternalServicesEnabled": "True", "ConditionalAccessPolicy": "Off", "Force": "True"}),
    ("Add-RecipientPermission", {"AccessRights": "SendAs", "SkipDomainValidationForSharedMailbox": "False"}),
)


def mail_items_accessed(scene: Scene) -> Record:
    """Mail read or synchronized: aggregated over two minutes, by folder."""
    draw, session = scene.draw, scene.session
    sync = draw.chance(0.25)
    items = [] if sync else [_accessed(scene) for _ in range(1 + int(draw.random() ** 3 * 9))]
    folder = draw.pick(session.user.folders)
    return {
        **scene.record(50, "MailItemsAccessed", "Exchange"),
        **session.mail_members,
        "ResultStatus": "Succeeded",
        "OperationProperties": pairs({"MailAccessType": "Sync" if sync else "Bind", "IsThrottled": "False"}),
        "Folders": [{"FolderItems": items, **folder}],
        "OperationCount": len(items) or 1,
    }


def item_changed(scene: Scene) -> Record:
    """One item created, sent, changed; at times an inbox rule or the folder's permissions."""
    draw, session = scene.draw, scene.session
    operation = draw.pick(_ITEM_OPERATIONS)
    folder = draw.pick(session.user.folders)
    item: Record = {
        "Id": f"RgAAAAD{draw.token(89)}",
        "InternetMessageId": _message_id(scene),
        "IsRecord": False,
        "ParentFolder": folder,
        "SizeInBytes": 2_000 + int(draw.random() ** 5 * 9_000_000),
        "Subject": draw.pick(_SUBJECTS).format(draw.below(10_000)),
    }
    record = {
        **scene.record(2, operation, "Exchange"),
        **session.mail_members,
        "ResultStatus": "Succeeded",
        "ClientRequestId": draw.guid(),
        "Item": item,
    }
    if operation == "Update":
        record["ModifiedProperties"] = ["RecipientsList", "Subject", "AllAttachmentsCount"]
    elif operation == "SendAs":
        record |= {"SendAsUserSmtp": f"team@{scene.world.domain}", "SendAsUserMailboxGuid": scene.world.ids[0]}
    elif operation == "AttachmentAccess":
        item["Attachments"] = f"{draw.pick(session.user.one_drive.files).name} ({draw.below(90_000)}b)"
    return record


def rules_updated(scene: Scene) -> Record:
    """An inbox rule as Outlook writes it; its actions are JSON text in a pair."""
    draw, session = scene.draw, scene.session
    rule = {
        "RuleId": str(draw.below(1 << 53)),
        "RuleOperation": "AddMailboxRule",
        "RuleState": "Enabled",
        "RuleCondition": "(SubjectContains newsletter)",
        "RuleName": None if draw.chance(0.2) else "Newsletters",
        "RuleProvider": "RuleOrganizer",
        "RuleActions": '[{"ActionType":"Move","Folder":"Archive"}]',
    }
    return {
        **scene.record(2, "UpdateInboxRules", "Exchange"),
        **session.mail_members,
        "ResultStatus": "Succeeded",
        "OperationProperties": pairs(rule),
        "Item": {"Id": f"LgAAAAD{draw.token(57)}", "ParentFolder": {"Name": "Inbox", **session.user.folders[0]}},
    }


def items_moved(scene: Scene) -> Record:
    """Several items moved or deleted together."""
    draw, session = scene.draw, scene.session
    operation = draw.pick(("MoveToDeletedItems", "SoftDelete", "HardDelete", "Move"))
    source, target = draw.pick(session.user.folders), session.user.folders[2]
    record = {
        **scene.record(3, operation, "Exchange"),
        **session.mail_members,
        "ResultStatus": draw.pick(("Succeeded", "Succeeded", "Succeeded", "PartiallySucceeded")),
        "AffectedItems": [_affected(scene, source) for _ in range(1 + int(draw.random() ** 5 * 5))],
        "CrossMailboxOperation": False,
        "Folder": source,
    }
    if operation == "Move":
        record["DestFolder"] = target
    return record


def cmdlet_run(scene: Scene) -> Record:
    """An Exchange cmdlet; two in three are the service's own."""
    draw, world = scene.draw, scene.world
    operation, parameters = draw.pick(_CMDLETS)
    record = scene.record(1, operation, "Exchange")
    target = draw.pick(world.users)
    forest = f"DEUP{draw.below(9)}A001.PROD.OUTLOOK.COM"
    identity = f"{forest}/Microsoft Exchange Hosted Organizations/{world.organization}/{target.upn}"
    if draw.chance(0.66):
        record |= {"UserId": _SYSTEM_KEY, "UserKey": _SYSTEM_KEY, "UserType": 3, "AppId": "", "ClientAppId": ""}
    else:
        admin = draw.pick(world.admins)
        record |= {"UserId": admin.upn, "UserKey": admin.puid, "UserType": 2, "ClientIP": _admin_ip(scene)}
        record |= {"SessionId": draw.guid(), "AppId": "fb78d390-0c51-40cd-8e17-fdbfab77341b", "ClientAppId": ""}
    return record | {
        "ResultStatus": "True" if draw.chance(0.97) else "False",
        "ObjectId": identity,
        "ExternalAccess": record["UserType"] == 3,
        "OrganizationName": world.organization,
        "OriginatingServer": f"{draw.pick(world.servers)} (15.20.8182.{draw.below(30):03})",
        "Parameters": pairs({"Identity": identity, **parameters}),
    }


def new_forwarding_rule(scene: Scene) -> Record:
    """An inbox rule that forwards outside and deletes, as an intruder leaves it."""
    world, user = scene.world, scene.session.user
    rule = {"Name": "..", "SubjectOrBodyContainsWords": "invoice;payment", "ForwardTo": f"smtp:archive@{world.partner}"}
    return {
        **scene.record(1, "New-InboxRule", "Exchange"),
        "ClientIP": f"{scene.session.ip}:51044",
        "ResultStatus": "True",
        "ObjectId": f"{user.upn}\\..",
        "AppId": EXCHANGE_ONLINE,
        "ClientAppId": "",
        "ExternalAccess": False,
        "OrganizationName": world.organization,
        "OriginatingServer": f"{world.servers[0]} (15.20.8182.011)",
        "Parameters": pairs({"AlwaysDeleteOutlookRulesBlob": "False", **rule, "DeleteMessage": "True"}),
        "SessionId": scene.session.session_id,
        "AppAccessContext": {"AADSessionId": scene.session.session_id, "APIId": GRAPH},
    }


def _message_id(scene: Scene) -> str:
    server = scene.draw.pick(scene.world.servers)
    return f"<{server}{scene.draw.hex(28).upper()}@{server}.deup301.prod.outlook.com>"


def _accessed(scene: Scene) -> Record:
    return {
        "Id": f"RgAAAAD{scene.draw.token(57)}",
        "InternetMessageId": _message_id(scene),
        "SizeInBytes": 4_000 + scene.draw.below(60_000),
    }


def _affected(scene: Scene, folder: dict[str, str]) -> Record:
    return {
        "Id": f"RgAAAAD{scene.draw.token(89)}",
        "InternetMessageId": _message_id(scene),
        "ParentFolder": folder,
        "Subject": scene.draw.pick(_SUBJECTS).format(scene.draw.below(10_000)),
    }


def _admin_ip(scene: Scene) -> str:
    if scene.draw.chance(0.3):
        return f"[2001:db8:4::{scene.draw.hex(4)}]:{1024 + scene.draw.below(60_000)}"
    return f"203.0.113.{10 + scene.draw.below(6)}:{1024 + scene.draw.below(60_000)}"


WEIGHTS: dict[Maker, float] = {
    mail_items_accessed: 9.5,
    item_changed: 6.3,
    rules_updated: 0.2,
    items_moved: 3.0,
    cmdlet_run: 6.0,
}
