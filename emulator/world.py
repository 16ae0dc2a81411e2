"""A small invented company per tenant: people, devices, sites, files, mail folders.

Stable for (seed, tenant), whatever stretch of time is generated, so that two runs talk about the same people. Names are
Microsoft's usual fictitious companies, addresses come from the documentation ranges of RFC 5737 and RFC 3849.
"""

from dataclasses import dataclass

from emulator.draw import Draw

COMPANIES = ("contoso", "fabrikam", "adatum", "northwindtraders", "tailspintoys", "wingtiptoys", "proseware", "litware")
_FIRST_NAMES = [
    "adele",
    "alex",
    "megan",
    "bianca",
    "chidi",
    "daiyu",
    "elif",
    "farid",
    "greta",
    "hana",
    "imani",
    "jonas",
    "keiko",
    "lior",
    "mateo",
    "nadia",
    "oskar",
    "priya",
    "quinn",
    "rosa",
    "sanjay",
    "tomas",
    "ursula",
    "viktor",
    "wanda",
    "ximena",
    "yusuf",
    "zofia",
    "amara",
    "bruno",
    "carla",
    "dmitri",
    "esther",
    "fiona",
    "gustav",
    "helga",
    "ivan",
    "jana",
    "kofi",
    "lucia",
]
_INITIALS = "vwbckmprstdfgh"
_TEAMS = [
    "Finance",
    "Sales",
    "Marketing",
    "Legal",
    "Engineering",
    "Operations",
    "Research",
    "Support",
    "Facilities",
    "Procurement",
    "Design",
    "Payroll",
]
_FOLDERS = ("General", "Reports/2026", "Contracts", "Budget/FY27", "Plans", "Minutes", "Archive/2024/Q3", "Drafts")
_STEMS = [
    "Budget forecast",
    "Supplier contract",
    "Meeting minutes",
    "Launch plan",
    "Price list",
    "Onboarding guide",
    "Board deck",
    "Risk register",
    "Payroll summary",
    "Customer survey",
    "Travel policy",
    "Design review",
    "Übersicht Verträge",
    "Inventaire général",
    "四半期報告",
    "Планы",
]
_EXTENSIONS = ("docx", "xlsx", "pptx", "pdf", "docx", "xlsx", "png", "csv", "zip", "one", "msg", "mp4")
_MAIL_FOLDERS = ("Inbox", "Sent Items", "Drafts", "Deleted Items", "Archive", "Calendar", "Projects")
_SYSTEMS = (
    ("Windows", "Windows 10", "Windows NT 10.0; Win64; x64", "Edge", "Edg/131.0.0.0"),
    ("Windows", "Windows 11", "Windows NT 10.0; Win64; x64", "Chrome", "Chrome/131.0.0.0"),
    ("macOS", "MacOs", "Macintosh; Intel Mac OS X 14_7_1", "Safari", "Version/18.1 Safari/605.1.15"),
    ("iOS", "Ios 18.1", "iPhone; CPU iPhone OS 18_1 like Mac OS X", "Mobile Safari", "Mobile/15E148"),
)


@dataclass(frozen=True, slots=True)
class Device:
    """A laptop or phone of one person."""

    name: str
    id: str
    platform: str
    system: str
    browser: str
    version: str
    user_agent: str
    managed: bool


@dataclass(frozen=True, slots=True)
class File:
    """A file of a site; `members` are those of its SharePoint records that never change."""

    name: str
    extension: str
    url: str
    unique_id: str
    size_bytes: int
    members: dict[str, object]


@dataclass(frozen=True, slots=True)
class Site:
    """A team site or somebody's OneDrive."""

    workload: str
    title: str
    url: str
    site_id: str
    web_id: str
    list_id: str
    group_id: str
    thread: str
    members: dict[str, object]
    files: tuple[File, ...]


@dataclass(frozen=True, slots=True)
class User:
    """A person; `mailbox` are the members of mailbox records that never change."""

    upn: str
    display: str
    id: str
    puid: str
    site_key: str
    home_ip: str
    one_drive: Site
    devices: tuple[Device, ...]
    folders: tuple[dict[str, str], ...]
    mailbox: dict[str, object]
    actor: list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class World:
    """All that records of one tenant may speak of."""

    tenant_id: str
    domain: str
    partner: str
    organization: str
    users: tuple[User, ...]
    admins: tuple[User, ...]
    sites: tuple[Site, ...]
    servers: tuple[str, ...]
    ids: tuple[str, ...]


def build_world(seed: int, tenant_id: str) -> World:
    """Invents the company of a tenant."""
    draw = Draw(f"world/{seed}/{tenant_id}")
    company, partner = draw.pick(COMPANIES[:4]), draw.pick(COMPANIES[4:])
    servers = tuple(f"DX{draw.below(9)}PR{draw.below(90) + 10}MB{draw.below(9000) + 1000}" for _ in range(6))
    domain = f"{company}.com"
    users = tuple(_user(draw, name, company, draw.pick(servers)) for name in _FIRST_NAMES)
    sites = tuple(_site(draw, "SharePoint", t, f"https://{company}.sharepoint.com/sites/{t}", 40) for t in _TEAMS)
    ids = tuple(draw.guid() for _ in range(64))  # policies, apps, plans, flows: each module takes its own few
    return World(
        tenant_id, domain, f"{partner}.com", f"{company}.onmicrosoft.com", users, users[:4], sites, servers, ids
    )


def _user(draw: Draw, name: str, company: str, server: str) -> User:
    initial = draw.pick(_INITIALS)
    upn, user_id, puid = f"{name}.{initial}@{company}.com", draw.guid(), f"1003{draw.hex(12).upper()}"
    sid = f"S-1-5-21-{draw.below(1 << 31)}-{draw.below(1 << 31)}-{draw.below(1 << 31)}-{draw.below(90_000_000)}"
    drive_url = f"https://{company}-my.sharepoint.com/personal/{name}_{initial}_{company}_com"
    folders = tuple({"Id": f"LgAAAAD{draw.token(57)}AB", "Path": f"\\{folder}"} for folder in _MAIL_FOLDERS)
    mailbox: dict[str, object] = {
        "ExternalAccess": False,
        "InternalLogonType": 0,
        "LogonType": 0,
        "LogonUserSid": sid,
        "MailboxGuid": draw.guid(),
        "MailboxOwnerSid": sid,
        "MailboxOwnerUPN": upn,
        "OrganizationName": f"{company}.onmicrosoft.com",
        "OriginatingServer": f"{server} (15.20.8182.{draw.below(30):03})\r\n",
    }
    actor: list[dict[str, object]] = [
        {"ID": upn, "Type": 5},
        {"ID": puid, "Type": 3},
        {"ID": f"User_{user_id}", "Type": 2},
        {"ID": user_id, "Type": 2},
        {"ID": "User", "Type": 2},
    ]
    return User(
        upn=upn,
        display=f"{name.title()} {initial.upper()}.",
        id=user_id,
        puid=puid,
        site_key=f"i:0h.f|membership|{puid.lower()}@live.com",
        home_ip=f"198.51.100.{draw.below(254) + 1}",
        one_drive=_site(draw, "OneDrive", "Documents", drive_url, 14),
        devices=tuple(_device(draw, name, n) for n in range(2)),
        folders=folders,
        mailbox=mailbox,
        actor=actor,
    )


def _device(draw: Draw, name: str, number: int) -> Device:
    platform, system, comment, browser, version = draw.pick(_SYSTEMS[:2] if number == 0 else _SYSTEMS[2:])
    user_agent = f"Mozilla/5.0 ({comment}) AppleWebKit/537.36 (KHTML, like Gecko) {version}"
    label = f"{name.upper()[:6]}-{draw.hex(6).upper()}"
    return Device(label, draw.guid(), platform, system, browser, version.split("/")[1], user_agent, number == 0)


def _site(draw: Draw, workload: str, title: str, url: str, count: int) -> Site:
    members: dict[str, object] = {
        "ListId": draw.guid(),
        "Site": draw.guid(),
        "WebId": draw.guid(),
        "SiteUrl": f"{url}/",
    }
    return Site(
        workload=workload,
        title=title,
        url=url,
        site_id=str(members["Site"]),
        web_id=str(members["WebId"]),
        list_id=str(members["ListId"]),
        group_id=draw.guid(),
        thread=f"19:{draw.hex(32)}@thread.tacv2",
        members=members,
        files=tuple(_file(draw, url, members, n) for n in range(count)),
    )


def _file(draw: Draw, site_url: str, site: dict[str, object], number: int) -> File:
    extension = draw.pick(_EXTENSIONS)
    name = f"{draw.pick(_STEMS)} {number + 1}.{extension}"
    folder = f"Shared Documents/{draw.pick(_FOLDERS)}"
    unique_id, size_bytes = draw.guid(), 900 + int(draw.random() ** 6 * 80_000_000)
    members: dict[str, object] = {
        "ObjectId": f"{site_url}/{folder}/{name}",
        "ListItemUniqueId": unique_id,
        **site,
        "FileSizeBytes": size_bytes,
        "SourceFileExtension": extension,
        "SourceFileName": name,
        "SourceRelativeUrl": folder,
    }
    return File(name, extension, str(members["ObjectId"]), unique_id, size_bytes, members)
