"""Other services of Audit.General: Teams (25), Viva Engage (22), Forms (66), Planner, Copilot (261), the rest."""

from emulator.scene import Maker, Record, Scene, pairs
from emulator.world import Site, User

_TEAMS_OPERATIONS = ("MessageSent",) * 4 + (
    "MessageRead",
    "TeamsSessionStarted",
    "MemberAdded",
    "ChannelAdded",
    "ReactedToMessage",
)
_CLIENT = {
    "ClientName": "teams",
    "ClientVersion": "24295.605.3225.8804",
    "ClientUtcOffsetSeconds": "3600",
    "Country": "us",
    "OsName": "windows",
    "OsVersion": "10",
    "TimeZone": "Europe/Berlin",
}
# Named by the contract's tables, but without a schema family of their own.
_UNFAMILIAR: tuple[tuple[int, str, str, Record], ...] = (
    (
        44,
        "ExecutedQuery",
        "WorkplaceAnalytics",
        {"WpaUserRole": "Analyst", "OperationDetails": pairs({"QueryName": "Focus time"})},
    ),
    (76, "UpdatedUserBriefingSettings", "MicrosoftBriefing", {"Setting": "OptOut", "NewSetting": "false"}),
    (
        147,
        "UpdateUsageReportsPrivacySetting",
        "MicrosoftReports",
        {"ModifiedProperties": [{"Name": "PrivacyEnabled", "NewValue": "True"}]},
    ),
    (154, "OMEPortal", "OMEPortal", {"AuthenticationMethod": "OTP", "AuthenticationStatus": 1, "OperationStatus": 0}),
    (
        155,
        "CMImprovementActionChange",
        "ComplianceManager",
        {"ActionScore": 27.5, "ActionScoreChange": 4.5, "Assessments": []},
    ),
    (202, "EntityUpdated", "MicrosoftTodo", {"ItemType": "Task", "ActorAppId": "teams", "ExtraProperties": []}),
    (
        295,
        "AuditSearchCompleted",
        "SecurityComplianceCenter",
        {"SearchSource": "Portal", "ResultsCount": 4711, "IsInternalServiceRequest": "False"},
    ),
)
_UNNAMED = (-1, 599, 742, 1031)  # numbers that no public table names; -1 is seen on the wire


def teams_used(scene: Scene) -> Record:
    """A message, meeting, member or session of Teams."""
    draw, session = scene.draw, scene.session
    operation, site = draw.pick(_TEAMS_OPERATIONS), draw.pick(scene.world.sites)
    record = scene.record(25, operation, "MicrosoftTeams")
    record |= {
        "UserKey": session.user.id,
        "ClientIP": session.ip,
        "AppAccessContext": {
            "AADSessionId": session.session_id,
            "IssuedAtTime": scene.at,
            "UniqueTokenId": session.token_id,
        },
        "ExtraProperties": [{"Key": key, "Value": value} for key, value in _CLIENT.items()],
        "ResourceTenantId": scene.world.tenant_id,
    }
    if operation == "TeamsSessionStarted":
        return record | {"ObjectId": "Windows (10)"}
    if operation == "MemberAdded":
        return (
            record
            | _team(site)
            | {"Members": [_member(draw.pick(scene.world.users), r) for r in range(1 + draw.below(3))]}
        )
    if operation == "ChannelAdded":
        return (
            record
            | _team(site)
            | {
                "ChannelName": f"Topic {draw.below(90)}",
                "ChannelGuid": f"19:{draw.hex(32)}@thread.tacv2",
                "ChannelType": "Standard",
            }
        )
    return record | _message(scene, site)


def _message(scene: Scene, site: Site) -> Record:
    draw, world = scene.draw, scene.world
    foreign = draw.chance(0.1)
    domains = [world.domain, world.partner] if foreign else []
    return {
        "ChatThreadId": site.thread,
        "CommunicationType": draw.pick(("Chat", "GroupChat", "Team")),
        "ItemName": site.title,
        "MessageId": str(1_790_000_000_000 + draw.below(90_000_000_000)),
        "MessageURLs": [],
        "MessageVersion": "0",
        "ParticipantInfo": {
            "HasForeignTenantUsers": foreign,
            "HasGuestUsers": False,
            "HasOtherGuestUsers": False,
            "HasUnauthenticatedUsers": False,
            "ParticipatingDomains": domains,
            "ParticipatingSIPDomains": [{"DomainName": d, "TenantId": world.ids[40]} for d in domains],
            "ParticipatingTenantIds": [world.tenant_id],
        },
    }


def _team(site: Site) -> Record:
    return {"TeamGuid": site.thread, "TeamName": site.title, "AADGroupId": site.group_id, "CommunicationType": "Team"}


def _member(user: User, role: int) -> Record:
    return {"DisplayName": user.display, "Role": role, "UPN": user.upn}


def form_answered(scene: Scene) -> Record:
    """A form viewed or answered."""
    draw = scene.draw
    return scene.record(66, draw.pick(("ViewForm", "CreateResponse", "EditForm", "ListForms")), "MicrosoftForms") | {
        "ActivityParameters": f'{{"FormId":"{scene.world.ids[53]}","ResponderId":"{draw.guid()}"}}',
        "ClientIP": scene.session.ip,
        "FormId": scene.world.ids[53],
        "FormName": "Lunch survey",
        "FormType": 0,
        "FormsUserType": 2,
        "ObjectId": scene.world.ids[53],
        "ResultStatus": "Succeeded",
        "SourceApp": "Forms Web",
    }


def community_read(scene: Scene) -> Record:
    """Viva Engage, whose Workload is still Yammer; its ids pass 2**31."""
    draw = scene.draw
    return scene.record(
        22, draw.pick(("MessageViewed", "MessageCreated", "FileVisited", "FileDownloaded")), "Yammer"
    ) | {
        "ActorUserId": scene.session.user.upn,
        "ActorYammerUserId": 1_500_000_000_000 + draw.below(1 << 40),
        "ClientIP": scene.session.ip,
        "FileId": 2_000_000_000 + draw.below(1 << 33),
        "FileName": draw.pick(scene.session.user.one_drive.files).name,
        "GroupName": draw.pick(scene.world.sites).title,
        "ObjectId": f"https://www.yammer.com/{scene.world.domain}/threads/{draw.below(1 << 44)}",
        "ResultStatus": "TRUE",
        "VersionId": draw.below(1 << 33),
        "YammerNetworkId": 5_846_122,
    }


def plan_worked(scene: Scene) -> Record:
    """Planner, whose plans sit in groups; ResultStatus is a number there."""
    draw = scene.draw
    record_type, operation = draw.pick(
        ((188, "PlanRead"), (188, "PlanModified"), (190, "TaskCreated"), (190, "TaskCompleted"))
    )
    plan_id = scene.world.ids[54].replace("-", "")[:28]
    record = scene.record(record_type, operation, "Planner") | {
        "ObjectId": plan_id,
        "ResultStatus": "1",
        "ClientIP": scene.session.ip,
    }
    if record_type == 190:
        return record | {"ObjectId": draw.token(28), "PlanId": plan_id}
    return record | {"ContainerType": 2, "ContainerId": draw.pick(scene.world.sites).group_id}


def copilot_asked(scene: Scene) -> Record:
    """A question to Copilot and the files it read for the answer."""
    draw, session = scene.draw, scene.session
    files = [draw.pick(draw.pick(scene.world.sites).files) for _ in range(draw.below(4))]
    thread = f"19:{draw.token(42)}@thread.v2"
    return scene.record(261, "CopilotInteraction", "Copilot") | {
        "ClientIP": session.ip,
        "ClientRegion": "eu",
        "CopilotEventData": {
            "AISystemPlugin": [{"Id": "BingWebSearch", "Name": "BuiltIn"}] if draw.chance(0.3) else [],
            "AccessedResources": [
                {
                    "Action": "Read",
                    "Id": f.unique_id,
                    "Name": f.name,
                    "SiteUrl": f.url,
                    "Type": f.extension,
                    "listItemUniqueId": f.unique_id,
                }
                for f in files
            ],
            "AppHost": draw.pick(("Office", "Teams", "Word", "Outlook", "BizChat")),
            "Contexts": [{"Id": f.url, "Type": f.extension} for f in files[:1]],
            "MessageIds": [],
            "Messages": [
                {"Id": str(draw.below(1 << 41)), "isPrompt": True},
                {"Id": str(draw.below(1 << 41)), "isPrompt": False},
            ],
            "ModelTransparencyDetails": [{"ModelName": "DEEP_LEO"}] if draw.chance(0.3) else [],
            "ThreadId": thread,
        },
    }


def unfamiliar_seen(scene: Scene) -> Record:
    """A record of a type without a schema family."""
    record_type, operation, workload, members = scene.draw.pick(_UNFAMILIAR)
    return {**scene.record(record_type, operation, workload), "ResultStatus": "Success", **members}


def unnamed_seen(scene: Scene) -> Record:
    """A record of a type newer than every public table."""
    draw = scene.draw
    return scene.record(draw.pick(_UNNAMED), "SettingChanged", "NewService") | {
        "ClientIP": scene.session.ip,
        "ObjectId": draw.guid(),
        "Details": {"Depth": draw.below(9), "Path": ["settings", draw.hex(6)], "Enabled": draw.chance(0.5)},
    }


WEIGHTS: dict[Maker, float] = {
    teams_used: 7.2,
    form_answered: 0.3,
    community_read: 0.5,
    plan_worked: 0.4,
    copilot_asked: 1.0,
    unfamiliar_seen: 0.4,
    unnamed_seen: 0.1,
}
