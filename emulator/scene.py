"""Who does what from where just now: the session, and the scene that a record is made from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from emulator.draw import Draw
from emulator.world import Device, User, World

Record = dict[str, object]
Pairs = list[dict[str, object]]

# First-party applications, as any tenant has them: name and id are facts of the service.
APPS = (
    ("Office 365 SharePoint Online", "00000003-0000-0ff1-ce00-000000000000"),
    ("Microsoft Office", "d3590ed6-52b3-4102-aeff-aad2292ab01c"),
    ("Microsoft Teams", "1fec8e78-bce4-4aaf-ab1b-5451cc387264"),
    ("OneDrive SyncEngine", "ab9b8c07-8f02-4f72-87fa-80105867a763"),
    ("OfficeHome", "4765445b-32c6-49b0-83e6-1d93765276ca"),
)
EXCHANGE_ONLINE = "00000002-0000-0ff1-ce00-000000000000"
GRAPH = "00000003-0000-0000-c000-000000000000"


@dataclass(slots=True)
class Session:
    """One person at one device and address for some hours; members that its records share are built once."""

    user: User
    device: Device
    ip: str
    session_id: str
    token_id: str
    app: tuple[str, str]
    until_hour: int
    new_client: bool = True
    site_members: Record = field(init=False)
    mail_members: Record = field(init=False)
    logon_members: Record = field(init=False)

    def __post_init__(self) -> None:
        self.site_members = _site_members(self)
        self.mail_members = _mail_members(self)
        self.logon_members = _logon_members(self)


@dataclass(slots=True)
class Scene:
    """What a record is made from. `session` and `at` change from record to record."""

    world: World
    draw: Draw
    session: Session
    at: str = ""

    def record(self, record_type: int, operation: str, workload: str) -> Record:
        """Starts a record of the session's user."""
        user = self.session.user
        return {
            "CreationTime": self.at,
            "Id": self.draw.guid(),
            "Operation": operation,
            "OrganizationId": self.world.tenant_id,
            "RecordType": record_type,
            "UserKey": user.puid,
            "UserType": 0,
            "Version": 1,
            "Workload": workload,
            "UserId": user.upn,
        }

    def service_record(self, record_type: int, operation: str, workload: str, service: str) -> Record:
        """Starts a record that no person caused."""
        record = self.record(record_type, operation, workload)
        record["UserKey"] = record["UserId"] = service
        record["UserType"] = 4
        return record


Maker = Callable[[Scene], Record]


def start_session(draw: Draw, world: World, hour: int) -> Session:
    """Lets somebody sit down: busy people more often, mostly in the office and on the laptop."""
    user = world.users[int(draw.random() ** 1.7 * len(world.users))]
    ip = f"203.0.113.{draw.below(6) + 10}" if draw.chance(0.65) else user.home_ip
    device = user.devices[draw.chance(0.25)]
    return Session(
        user, device, ip, draw.guid(), draw.token(22), draw.pick(APPS), hour + 1 + draw.below(6), draw.chance(0.4)
    )


def _site_members(session: Session) -> Record:
    device = session.device
    members: Record = {
        "ClientIP": session.ip,
        "UserKey": session.user.site_key,
        "EventSource": "SharePoint",
        "UserAgent": device.user_agent,
    }
    if not session.new_client:
        return members
    return members | {
        "ApplicationId": session.app[1],
        "ApplicationDisplayName": session.app[0],
        "AuthenticationType": "OAuth",
        "BrowserName": device.browser,
        "BrowserVersion": device.version,
        "DeviceDisplayName": device.name,
        "GeoLocation": "EUR",
        "IsManagedDevice": device.managed,
        "Platform": device.platform,
        "AppAccessContext": {
            "AADSessionId": session.session_id,
            "ClientAppId": session.app[1],
            "ClientAppName": session.app[0],
            "CorrelationId": session.session_id[::-1],
            "UniqueTokenId": session.token_id,
        },
    }


def _mail_members(session: Session) -> Record:
    members: Record = {
        "ClientIP": session.ip,
        "ClientIPAddress": session.ip,
        "ClientInfoString": "Client=MSExchangeRPC" if session.device.managed else "Client=OWA;Action=ViaProxy",
        **session.user.mailbox,
        "SessionId": session.session_id,
    }
    if session.device.managed:
        members |= {"ClientProcessName": "OUTLOOK.EXE", "ClientVersion": "16.0.18227.20162"}
    if session.new_client:
        context = {"AADSessionId": session.session_id, "APIId": GRAPH, "UniqueTokenId": session.token_id}
        members |= {"AppId": EXCHANGE_ONLINE, "ClientAppId": session.app[1], "AppAccessContext": context}
    return members


def _logon_members(session: Session) -> Record:
    device = session.device
    properties = {"OS": device.system, "BrowserType": device.browser, "IsCompliantAndManaged": str(device.managed)}
    if device.managed:
        properties = {"Id": device.id, "DisplayName": device.name, **properties, "TrustType": "1"}
    return {
        "ClientIP": session.ip,
        "ActorIpAddress": session.ip,
        "UserKey": session.user.id,
        "DeviceProperties": pairs({**properties, "SessionId": session.session_id}),
    }


def pairs(values: Mapping[str, object]) -> Pairs:
    """Writes members as the service's arrays of Name and Value."""
    return [{"Name": name, "Value": value} for name, value in values.items()]


def changes(values: Mapping[str, tuple[str, str]]) -> Pairs:
    """Writes (new, old) values as the service's ModifiedProperties."""
    return [{"Name": name, "NewValue": new, "OldValue": old} for name, (new, old) in values.items()]
