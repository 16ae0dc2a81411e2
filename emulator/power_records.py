"""Power Platform: Power BI (20), Dynamics 365 (21), Power Automate (30), Power Apps (45)."""

from emulator.scene import Maker, Record, Scene, pairs


def report_viewed(scene: Scene) -> Record:
    """A Power BI report seen or refreshed."""
    draw, ids = scene.draw, scene.world.ids
    activity, number, site = (
        draw.pick(("ViewReport", "RefreshDataset", "ExportReport", "ShareReport")),
        draw.below(6),
        draw.pick(scene.world.sites),
    )
    return scene.record(20, activity, "PowerBI") | {
        "Activity": activity,
        "ActivityId": draw.guid(),
        "ArtifactId": ids[42 + number],
        "ArtifactKind": "Report",
        "ArtifactName": f"{site.title} overview",
        "CapacityId": ids[41],
        "CapacityName": "Shared",
        "ClientIP": scene.session.ip,
        "ConsumptionMethod": "Power BI Web",
        "DatasetId": ids[48],
        "DatasetName": f"{site.title} data",
        "DistributionMethod": "Workspace",
        "IsSuccess": True,
        "ItemName": f"{site.title} overview",
        "ObjectId": f"{site.title} overview",
        "RefreshEnforcementPolicy": 0,
        "ReportId": ids[42 + number],
        "ReportName": f"{site.title} overview",
        "ReportType": "PowerBIReport",
        "RequestId": draw.guid(),
        "UserAgent": scene.session.device.user_agent,
        "UserKey": scene.session.user.puid,
        "WorkSpaceName": site.title,
        "WorkspaceId": site.group_id,
        **({"OperationProperties": "[]"} if draw.chance(0.05) else {}),
    }


def row_touched(scene: Scene) -> Record:
    """A row of Dynamics 365."""
    draw, world = scene.draw, scene.world
    entity, entity_id = draw.pick(("account", "contact", "opportunity", "incident")), draw.guid()
    url = f"https://{world.domain.split('.')[0]}.crm4.dynamics.com/"
    return scene.record(21, draw.pick(("Retrieve", "RetrieveMultiple", "Update", "Create", "Delete")), "CRM") | {
        "ClientIP": scene.session.ip,
        "CorrelationId": draw.guid(),
        "CrmOrganizationUniqueName": f"unq{world.ids[50].replace('-', '')[:20]}",
        "EntityId": entity_id,
        "EntityName": entity,
        "Fields": pairs({"name": f"Row {draw.below(900)}", "statuscode": str(draw.below(3)), "modifiedon": scene.at}),
        "InstanceUrl": url,
        "ItemType": "Dynamics365",
        "ItemUrl": f"{url}main.aspx?etn={entity}&id={entity_id}",
        "Message": "Retrieve",
        "ObjectId": entity_id,
        "Query": f"<fetch><entity name='{entity}'/></fetch>",
        "ResultStatus": "Success",
        "UserAgent": scene.session.device.user_agent,
    }


def flow_edited(scene: Scene) -> Record:
    """A flow of Power Automate made, changed, shared."""
    draw, ids = scene.draw, scene.world.ids
    return scene.record(30, draw.pick(("CreateFlow", "EditFlow", "DeleteFlow", "PutPermissions")), "MicrosoftFlow") | {
        "FlowConnectorNames": "shared_sharepointonline, shared_office365",
        "FlowDetailsUrl": f"https://make.powerautomate.com/environments/Default-{scene.world.tenant_id}/flows/{ids[51]}/details",
        "LicenseDisplayName": "Microsoft 365 E5",
        "ObjectId": ids[51],
        "ResultStatus": "Success",
        "SharingPermission": draw.below(3),
        "UserTypeInitiated": 1,
        "UserUPN": scene.session.user.upn,
    }


def app_launched(scene: Scene) -> Record:
    """An app of Power Apps used or published; AdditionalInfo is JSON text or an object."""
    draw, ids = scene.draw, scene.world.ids
    environment = f"Default-{scene.world.tenant_id}"
    info = {"environmentName": environment} if draw.chance(0.5) else f'{{"environmentName":"{environment}"}}'
    return scene.record(
        45, draw.pick(("LaunchPowerApp", "LaunchPowerApp", "UpdatePowerApp", "PublishPowerApp")), "PowerApps"
    ) | {
        "AdditionalInfo": info,
        "AppName": ids[52],
        "ClientIP": scene.session.ip,
        "ObjectId": f"/providers/Microsoft.PowerApps/apps/{ids[52]}",
        "ResultStatus": "Success",
    }


WEIGHTS: dict[Maker, float] = {
    report_viewed: 1.1,
    row_touched: 0.7,
    flow_edited: 0.4,
    app_launched: 0.3,
}
