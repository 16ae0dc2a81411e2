"""SharePoint and OneDrive: pages (4), files (6), sharing (14), Project (35), lists (36, 54, 56), comments (37)."""

from emulator.scene import Maker, Record, Scene, changes
from emulator.world import File, Site

_FILE_OPERATIONS = (
    ("FileAccessed",) * 30
    + ("FileModified",) * 16
    + ("FileDownloaded",) * 12
    + ("FilePreviewed", "FileUploaded", "FileSyncDownloadedFull") * 7
    + ("FileSyncUploadedFull", "FileAccessedExtended", "FileModifiedExtended") * 4
    + ("FileRenamed", "FileMoved", "FileCopied", "FileDeleted", "FileRecycled", "FileCheckedOut", "FileMalwareDetected")
)
_LIST_OPERATIONS = {
    36: ("ListViewed", "ListUpdated", "ListCreated"),
    54: ("ListItemViewed", "ListItemUpdated", "ListItemCreated"),
}
_SHARING_OPERATIONS = [
    "SharingSet",
    "AddedToSecureLink",
    "AnonymousLinkCreated",
    "AnonymousLinkUsed",
    "CompanyLinkCreated",
    "AddedToGroup",
]


def file_touched(scene: Scene) -> Record:
    """A file read, changed, synchronized, moved or deleted."""
    draw = scene.draw
    site = draw.pick(scene.world.sites) if draw.chance(0.6) else scene.session.user.one_drive
    return file_record(scene, site, draw.pick(site.files), draw.pick(_FILE_OPERATIONS))


def file_record(scene: Scene, site: Site, file: File, operation: str) -> Record:
    """One operation on one file."""
    draw = scene.draw
    record = {
        **scene.record(6, operation, site.workload),
        **scene.session.site_members,
        "CorrelationId": draw.guid(),
        "ItemType": "File",
        "ListBaseType": 1,
        "ListServerTemplate": 101 if site.workload == "SharePoint" else 700,
        **file.members,
        "HighPriorityMediaProcessing": False,
    }
    if operation in {"FileRenamed", "FileMoved", "FileCopied"}:
        record["DestinationFileName"] = f"{file.name[: -len(file.extension) - 1]} (2).{file.extension}"
        record["DestinationFileExtension"] = file.extension
        record["DestinationRelativeUrl"] = "Shared Documents/Archive"
    elif operation == "FileSyncUploadedFull":
        record["FileSyncBytesCommitted"] = str(file.size_bytes)
    elif operation == "FileMalwareDetected":
        record |= {"VirusInfo": "EICAR-Test-File", "VirusVendor": "Advanced Threat Protection"}
    elif operation == "FileDownloaded" and draw.chance(0.05):
        record["ZipFileName"] = f"OneDrive_{draw.below(99)}.zip"
    return record


def page_viewed(scene: Scene) -> Record:
    """A page seen, or a setting of the site changed."""
    draw = scene.draw
    site = draw.pick(scene.world.sites)
    if draw.chance(0.08):
        return _site_changed(scene, site)
    operation = draw.pick(
        ("PageViewed", "PageViewed", "PageViewedExtended", "ClientViewSignaled", "SearchQueryPerformed")
    )
    return {
        **scene.record(4, operation, site.workload),
        **scene.session.site_members,
        "CorrelationId": draw.guid(),
        "CustomUniqueId": False,
        "ItemType": "Page",
        "ListItemUniqueId": draw.guid(),
        "ObjectId": f"{site.url}/SitePages/{draw.pick(('Home', 'News', 'Topics'))}.aspx",
        "Site": site.site_id,
        "WebId": site.web_id,
    }


def _site_changed(scene: Scene, site: Site) -> Record:
    change = changes({"SharingCapability": ("ExternalUserSharingOnly", "ExternalUserAndGuestSharing")})
    return {
        **scene.record(4, "SharingPolicyChanged", site.workload),
        "ClientIP": "",
        "CorrelationId": scene.draw.guid(),
        "EventData": "<SharingCapability>ExternalUserSharingOnly</SharingCapability>",
        "EventSource": "SharePoint",
        "ItemType": "Web",
        "ModifiedProperties": change,
        "ObjectId": site.url,
        "Site": site.site_id,
        "UserAgent": "",
    }


def shared(scene: Scene) -> Record:
    """A file shared by link, person or group."""
    return sharing_record(scene, scene.draw.pick(_SHARING_OPERATIONS))


def sharing_record(scene: Scene, operation: str) -> Record:
    """One sharing operation on a file of a team site or of the person's own."""
    draw, world = scene.draw, scene.world
    site = draw.pick(world.sites) if draw.chance(0.5) else scene.session.user.one_drive
    file = draw.pick(site.files)
    guest = draw.chance(0.3)
    record = {
        **scene.record(14, operation, site.workload),
        **scene.session.site_members,
        "CorrelationId": draw.guid(),
        "ItemType": "File",
        **{name: value for name, value in file.members.items() if name != "FileSizeBytes"},
        "EventData": "<Type>Edit</Type><MembersCanShareApplied>False</MembersCanShareApplied>",
    }
    if operation.startswith(("Anonymous", "Company")):
        record["UniqueSharingId"] = draw.guid()
    else:
        someone = draw.pick(world.users)
        record["TargetUserOrGroupType"] = "Guest" if guest else "Member"
        record["TargetUserOrGroupName"] = f"{someone.upn.split('@')[0]}@{world.partner}" if guest else someone.upn
    return record


def list_touched(scene: Scene) -> Record:
    """A list or one of its items seen or changed."""
    return _list_record(scene, 36 if scene.draw.chance(0.7) else 54, "List")


def column_created(scene: Scene) -> Record:
    """A column of a list created, at times by SharePoint's own services."""
    record = _list_record(scene, 56, "Field")
    record["Operation"] = scene.draw.pick(("ListColumnCreated", "ListColumnUpdated", "SiteColumnCreated"))
    if scene.draw.chance(0.4):
        record |= {"UserId": "app@sharepoint", "UserKey": f"i:0i.t|{scene.session.app[1]}|app@sharepoint"}
    return record


def _list_record(scene: Scene, record_type: int, item_type: str) -> Record:
    draw = scene.draw
    site = draw.pick(scene.world.sites)
    return {
        **scene.record(
            record_type, draw.pick(_LIST_OPERATIONS.get(record_type, ("ListColumnCreated",))), site.workload
        ),
        **scene.session.site_members,
        "CorrelationId": draw.guid(),
        "DoNotDistributeEvent": True,
        "ItemType": item_type if record_type != 54 else "ListItem",
        "ListId": site.list_id,
        "ObjectId": f"{site.url}/{site.list_id}",
        "Site": site.site_id,
        "WebId": site.web_id,
        "CustomizedDoclib": False,
        "FromApp": False,
        "IsDocLib": True,
        "ItemCount": draw.below(4_000),
        "ListBaseTemplateType": "101",
        "ListBaseType": "DocumentLibrary",
        "ListColor": "",
        "ListIcon": "",
        "Source": "Unknown",
        "TemplateTypeId": "",
        "ListTitle": site.title,
    }


def commented(scene: Scene) -> Record:
    """A comment on a file."""
    record = file_record(scene, site := scene.draw.pick(scene.world.sites), site.files[0], "CommentCreated")
    record["RecordType"] = 37
    return record


def project_opened(scene: Scene) -> Record:
    """Project Web App: SharePoint's shape under a workload of its own."""
    draw, session = scene.draw, scene.session
    return {
        **scene.record(
            35, draw.pick(("ProjectAccessed", "ProjectModified", "ProjectCheckedIn", "TimesheetAccessed")), "Project"
        ),
        "Action": draw.pick(("Accessed", "Modified", "CheckedIn")),
        "ClientIP": session.ip,
        "CorrelationId": draw.guid(),
        "Entity": "Project",
        "EventSource": "Project",
        "ItemType": "Project",
        "UserAgent": session.device.user_agent,
    }


WEIGHTS: dict[Maker, float] = {
    file_touched: 26.5,
    page_viewed: 3.2,
    shared: 2.8,
    list_touched: 1.6,
    column_created: 0.4,
    commented: 0.3,
    project_opened: 0.2,
}
