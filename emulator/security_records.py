"""Purview and Defender: cmdlets (18), cases (24), alerts (40), searches (52), threats, AIR."""

from emulator.scene import Maker, Record, Scene

_PORTAL = "https://security.microsoft.com"
_CENTER = "SecurityComplianceCenter"
_COMPLIANCE_CMDLETS = [
    "Get-DlpCompliancePolicy",
    "Set-DlpCompliancePolicy",
    "New-DlpComplianceRule",
    "Get-ComplianceTag",
    "Set-Label",
]
_ALERTS = (
    ("Creation of forwarding/redirect rule", "MailRedirect", "ThreatManagement", "Informational"),
    ("Unusual volume of file deletion", "FileDeleted", "DataLossPrevention", "Medium"),
    ("Elevation of Exchange admin privilege", "Add-RoleGroupMember", "AccessGovernance", "Low"),
    ("Email messages containing phish URLs removed after delivery", "Zap", "ThreatManagement", "High"),
)
_CASE_OPERATIONS = [
    "CaseAdded",
    "CaseViewed",
    "SearchCreated",
    "SearchStarted",
    "SearchViewed",
    "SearchExported",
    "HoldCreated",
    "SearchPreviewed",
]
_QUARANTINE = [
    "QuarantinePreview",
    "QuarantineRelease",
    "QuarantineDelete",
    "QuarantineViewHeader",
    "QuarantineReleaseRequest",
]


def compliance_cmdlet_run(scene: Scene) -> Record:
    """A compliance cmdlet; here Parameters is one string."""
    draw, world = scene.draw, scene.world
    operation, admin = draw.pick(_COMPLIANCE_CMDLETS), draw.pick(world.admins)
    shown = f'-Identity "Policy {draw.below(40)}" -ErrorAction "SilentlyContinue"' if draw.chance(0.7) else ""
    return scene.record(18, operation, _CENTER) | {
        "ResultStatus": "Success",
        "UserKey": admin.upn,
        "UserType": 2,
        "ObjectId": "",
        "UserId": admin.upn,
        "SecurityComplianceCenterEventType": 0,
        "ClientApplication": "EMC",
        "CmdletVersion": "...",
        "EffectiveOrganization": world.organization,
        "NonPIIParameters": shown,
        "Parameters": shown,
        "StartTime": scene.at,
        "UserServicePlan": "",
    }


def alert_raised(scene: Scene) -> Record:
    """An alert or one of its entities; Data is JSON text, at times cut short."""
    draw, world = scene.draw, scene.world
    name, cause, category, severity = draw.pick(_ALERTS)
    user, tenant_id = draw.pick(world.users).upn, world.tenant_id
    entity = draw.chance(0.5)
    data = (
        f'{{"etype":"User","eid":"{user}","tid":"{tenant_id}","ts":"{scene.at}.0000000Z","te":"{scene.at}.0000000Z",'
        f'"op":"{cause}","tdc":"1","suid":"{user}","ut":"Admin","lon":"{cause}","an":"{name}","sev":"{severity}"}}'
    )
    record = {
        **scene.service_record(
            40, "AlertEntityGenerated" if entity else "AlertTriggered", _CENTER, "SecurityComplianceAlerts"
        ),
        "ResultStatus": "Succeeded",
        "ObjectId": user,
        "AlertId": draw.guid(),
        "AlertLinks": [{"AlertLinkHref": f"{_PORTAL}/viewalerts"}] if draw.chance(0.5) else [],
        "AlertType": "System",
        "Category": category,
        "Comments": "New alert",
        "Data": data if draw.chance(0.97) else data[:120],
        "Name": name,
        "PolicyId": world.ids[26],
        "Severity": severity,
        "Source": "Office 365 Security & Compliance",
        "Status": "Active",
    }
    if entity:
        record |= {"AlertEntityId": user, "EntityType": "User"}
    return record


def case_worked(scene: Scene) -> Record:
    """A step of an eDiscovery case."""
    draw, world = scene.draw, scene.world
    number, operation = draw.below(12), draw.pick(_CASE_OPERATIONS)
    shown = f'-CaseName "Matter {number}" -Query "subject:contract"'
    return scene.record(24, operation, _CENTER) | {
        "UserType": 2,
        "UserId": (admin := draw.pick(world.admins)).upn,
        "UserKey": admin.puid,
        "ObjectId": f"Matter {number}",
        "Case": f"Matter {number}",
        "CaseId": world.ids[28 + number],
        "CmdletVersion": "...",
        "ClientApplication": "EMC",
        "EffectiveOrganization": world.organization,
        "ExchangeLocations": [draw.pick(world.users).upn],
        "ExtendedProperties": [{"Name": "Source", "Value": "Purview"}],
        "NonPIIParameters": shown,
        "ObjectType": "ComplianceSearch",
        "Parameters": shown,
        "PublicFolderLocations": [],
        "QueryText": "subject:contract",
        "RecordNumber": "1",
        "SharepointLocations": [draw.pick(world.sites).url],
        "StartTime": scene.at,
    }


def portal_searched(scene: Scene) -> Record:
    """The Defender portal reading its own data."""
    kind = scene.draw.pick(("MtpStatus", "Alert", "AlertAggregate", "AirBatch"))
    return {
        **scene.service_record(52, f"Search{kind}", _CENTER, "NOT-FOUND"),
        "UserType": 5,
        "AadAppId": scene.world.ids[27],
        "DataType": kind,
        "DatabaseType": "DataInsights",
        "RelativeUrl": f"/DataInsights/DataInsightsService.svc/Find/{kind}?tenantid={scene.world.tenant_id}",
        "ResultCount": str(scene.draw.below(50)),
    }


def threat_mail_seen(scene: Scene) -> Record:
    """A mail judged phish or malware."""
    draw, world = scene.draw, scene.world
    message = draw.guid()
    sender = f"billing{draw.below(900)}@{world.partner}"
    attachment = {
        "FileName": f"invoice {draw.below(900)}.zip",
        "FileType": "zip",
        "FileVerdict": 1,
        "MalwareFamily": "",
        "SHA256": draw.hex(64).upper(),
    }
    return {
        **scene.service_record(28, "TIMailData", "ThreatIntelligence", "ThreatIntel"),
        "ObjectId": f"{message}{draw.below(1 << 60)}",
        "AdditionalActionsAndResults": ["OriginalDelivery: [N/A]"],
        "AttachmentData": [attachment] * draw.below(3),
        "AuthDetails": [
            {"Name": "SPF", "Value": "Fail"},
            {"Name": "DKIM", "Value": "None"},
            {"Name": "DMARC", "Value": "Fail"},
        ],
        "DeliveryAction": "Blocked",
        "DetectionMethod": "Advanced filter",
        "DetectionType": "Inline",
        "Directionality": "Inbound",
        "EventDeepLink": f"{_PORTAL}/threatexplorer?messageParams={message},{message},{scene.at[:10]}&view=Phish",
        "InternetMessageId": f"<{draw.hex(24)}@{world.partner}>",
        "LatestDeliveryLocation": "Quarantine",
        "MessageTime": scene.at,
        "NetworkMessageId": message,
        "OriginalDeliveryLocation": "Quarantine",
        "P1Sender": sender,
        "P2Sender": sender,
        "Policy": "HighConfidencePhish",
        "PolicyAction": "Quarantine",
        "Recipients": [scene.session.user.upn],
        "SenderIp": f"192.0.2.{draw.below(60) + 1}",
        "Subject": f"Fw: unpaid invoice {draw.below(9_000)}",
        "SystemOverrides": [{"Details": "None", "FinalOverride": "No", "Result": "Block", "Source": "Tenant"}],
        "ThreatsAndDetectionTech": ["Phish: [Advanced filter, URL detonation]"],
        "Verdict": "Phish",
    }


def threat_link_clicked(scene: Scene) -> Record:
    """A link that Safe Links stopped."""
    return {
        **scene.service_record(41, "TIUrlClickData", "ThreatIntelligence", "ThreatIntel"),
        "UserId": scene.session.user.upn,
        "AppName": "Mail",
        "AppVersion": "0.0.0000",
        "EventDeepLink": f"{_PORTAL}/threatexplorer?urlParams={scene.at[:10]}",
        "SourceId": scene.draw.guid(),
        "TimeOfClick": scene.at,
        "Url": f"https://login.{scene.world.partner}/{scene.draw.hex(12)}?next=%2Fmail",
        "URLClickAction": 2 + scene.draw.below(3),
        "UserIp": scene.session.ip,
    }


def threat_file_found(scene: Scene) -> Record:
    """A malicious file in a library."""
    file = scene.draw.pick(scene.session.user.one_drive.files)
    return {
        **scene.service_record(47, "AtpDetection", "ThreatIntelligence", "ThreatIntel"),
        "ObjectId": file.url,
        "DetectionDate": scene.at,
        "DetectionMethod": "Anti-malware engine",
        "EventDeepLink": f"{_PORTAL}/threatexplorer?fileParams={file.unique_id}",
        "FileData": {
            "DocumentId": file.unique_id,
            "FileName": file.name,
            "FilePath": file.url,
            "FileSize": str(file.size_bytes),
            "FileVerdict": 1,
            "MalwareFamily": "Eicar",
            "SHA256": scene.draw.hex(64),
        },
        "LastModifiedBy": scene.session.user.upn,
        "LastModifiedDate": scene.at,
        "SourceWorkload": 1,
    }


def investigation_updated(scene: Scene) -> Record:
    """An automated investigation; Data and each of Actions are JSON text."""
    draw, user = scene.draw, scene.session.user.upn
    name = f"urn:ZappedUrlInvestigation:{draw.hex(32)}"
    start = f'"StartTimeUtc":"{scene.at}Z"'
    entity = f'{{"$id":"2","MailboxPrimaryAddress":"{user}","Upn":"{user}","Type":"mailbox"}}'
    return {
        **scene.service_record(64, "AirInvestigationData", "AirInvestigation", "AirInvestigation"),
        "ObjectId": name,
        "Actions": [
            f'{{"$id":"1","ActionId":"{name}:{n}","ActionType":"SoftDelete","ActionStatus":"Pending",{start}}}'
            for n in (1, 2)
        ],
        "Data": f'{{"Version":"3.0","ProviderName":"OATP","Status":"Running",{start},"Entities":[{entity}]}}',
        "DeepLinkUrl": f"{_PORTAL}/mtp-investigation/{name}",
        "EndTimeUtc": "0001-01-01T00:00:00",
        "InvestigationId": name,
        "InvestigationName": f"Mail with malicious URL is zapped - {name}",
        "InvestigationType": "ZappedUrlInvestigation",
        "LastUpdateTimeUtc": scene.at,
        "RunningTime": draw.below(9_000),
        "StartTimeUtc": scene.at,
        "Status": "Running",
    }


def quarantine_used(scene: Scene) -> Record:
    """Something done with a mail in quarantine."""
    draw, record = scene.draw, scene.record(65, scene.draw.pick(_QUARANTINE), "Quarantine")
    message = f"{draw.guid()}\\{draw.guid()}"
    release = {
        "NetworkMessageId": message,
        "ReleaseTo": scene.session.user.upn,
        "RequestSource": 0,
        "RequestType": draw.below(5),
    }
    return record | {"UserType": 2, "ObjectId": message, "ResultStatus": "Successful"} | release


WEIGHTS: dict[Maker, float] = {
    compliance_cmdlet_run: 0.6,
    alert_raised: 1.0,
    case_worked: 0.4,
    portal_searched: 0.4,
    threat_mail_seen: 0.8,
    threat_link_clicked: 0.3,
    threat_file_found: 0.2,
    investigation_updated: 0.2,
    quarantine_used: 0.3,
}
