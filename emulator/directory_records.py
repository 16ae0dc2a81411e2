"""Entra records: directory changes (8), old account logons (9), sign-ins through the token service (15)."""

from emulator.scene import APPS, EXCHANGE_ONLINE, GRAPH, Maker, Pairs, Record, Scene, changes, pairs

Target = list[dict[str, object]]

# ErrorNumber and LogonError, as the token service pairs them.
_FAILURES = (
    ("50126", "InvalidUserNameOrPassword"),
    ("50126", "InvalidUserNameOrPassword"),
    ("50053", "IdsLocked"),
    ("50076", "UserStrongAuthClientAuthNRequiredInterrupt"),
    ("50058", "UserInformationNotProvided"),
    ("500121", "AuthenticationFailedSasError"),
    ("50055", "InvalidPasswordExpiredPassword"),
    ("53003", "BlockedByConditionalAccess"),
)
_ROLES = ("Global Reader", "User Administrator", "Exchange Administrator", "Security Reader", "Helpdesk Administrator")
_PERMISSION = (
    '    {{\r\n      "EntitlementId": "{}",\r\n      "DirectAccessGrant": false,\r\n'
    '      "ImpersonationAccessGrants": [\r\n        20\r\n      ]\r\n    }}'
)
_ACCESS = '[\r\n  {{\r\n    "ResourceAppId": "{}",\r\n    "RequiredAppPermissions": [\r\n{}\r\n    ]\r\n  }}\r\n]'
_REQUESTS = ("OAuth2:Authorize", "OAuth2:Token", "Login:login", "Login:reprocess", "Kmsi:kmsi")


def signed_in(scene: Scene) -> Record:
    """A sign-in that worked."""
    return _logon(scene, "UserLoggedIn", "0", "Redirect" if scene.draw.chance(0.4) else "Success")


def sign_in_failed(scene: Scene) -> Record:
    """A sign-in that failed, for one of the usual reasons."""
    return sign_in_failed_with(scene, *scene.draw.pick(_FAILURES))


def sign_in_failed_with(scene: Scene, number: str, error: str) -> Record:
    """A failed sign-in; `ResultStatus` says Success as often as not, the error decides."""
    record = _logon(scene, "UserLoginFailed", number, "UserError")
    record["LogonError"] = error
    record["ResultStatus"] = "Success" if scene.draw.chance(0.6) else "Failed"
    return record


def _logon(scene: Scene, operation: str, number: str, detail: str) -> Record:
    draw, session, tenant_id = scene.draw, scene.session, scene.world.tenant_id
    record = scene.record(15, operation, "AzureActiveDirectory")
    resource = draw.pick((GRAPH, EXCHANGE_ONLINE, APPS[0][1]))
    extended = {
        "ResultStatusDetail": detail,
        "UserAgent": session.device.user_agent,
        "RequestType": draw.pick(_REQUESTS),
    }
    if draw.chance(0.4):
        extended |= {"UserAuthenticationMethod": "1", "KeepMeSignedIn": "False"}
    return record | {
        "ResultStatus": "Success",
        "ObjectId": resource,
        "AzureActiveDirectoryEventType": 1,
        "ExtendedProperties": pairs(extended),
        "ModifiedProperties": [],
        "Actor": [{"ID": session.user.id, "Type": 0}, {"ID": session.user.upn, "Type": 5}],
        "ActorContextId": tenant_id,
        **session.logon_members,
        "InterSystemsId": draw.guid(),
        "IntraSystemId": record["Id"],
        "SupportTicketId": "",
        "Target": [{"ID": resource, "Type": 0}],
        "TargetContextId": tenant_id,
        "ApplicationId": session.app[1],
        "ErrorNumber": number,
    }


def old_logon(scene: Scene) -> Record:
    """A sign-in in the shape of before the token service."""
    user = scene.session.user
    return {
        **scene.record(9, "PasswordLogonInitialAuthUsingPassword", "AzureActiveDirectory"),
        "ResultStatus": "success",
        "ObjectId": "Not Available",
        "AzureActiveDirectoryEventType": 0,
        "ClientIP": scene.session.ip,
        "Client": "Exchange",
        "ExtendedProperties": pairs({"LoginError": "0;PP_E_OK"}),
        "LoginStatus": 0,
        "UserDomain": user.upn.split("@")[1],
    }


def user_updated(scene: Scene) -> Record:
    """A person's account changed."""
    user = scene.draw.pick(scene.world.users)
    license_id = scene.world.ids[1]
    modified = {
        "AssignedLicense": (f'[\r\n  "[SkuName=SPE_E5, SkuId={license_id}, DisabledPlans=[]]"\r\n]', "[]"),
        "StrongAuthenticationMethod": ('[\r\n  {\r\n    "MethodType": 6,\r\n    "Default": true\r\n  }\r\n]', "[]"),
        "Included Updated Properties": ("AssignedLicense, StrongAuthenticationMethod", ""),
        "TargetId.UserType": ("Member", ""),
    }
    operation = scene.draw.pick(
        ("Update user.", "Change user license.", "Reset user password.", "Update StsRefreshTokenValidFrom Timestamp.")
    )
    return _change(scene, operation, "User", user.upn, user.actor, changes(modified))


def role_given(scene: Scene) -> Record:
    """Somebody was given a role."""
    user, role = scene.draw.pick(scene.world.users), scene.draw.below(len(_ROLES))
    role_id = scene.world.ids[2 + role]
    modified = {
        "Role.ObjectID": (role_id, ""),
        "Role.DisplayName": (_ROLES[role], ""),
        "Role.TemplateId": (role_id, ""),
        "Role.WellKnownObjectName": (_ROLES[role].replace(" ", ""), ""),
    }
    return _change(scene, "Add member to role.", "Role", user.upn, user.actor, changes(modified))


def group_changed(scene: Scene) -> Record:
    """Somebody joined or left a group."""
    user, site = scene.draw.pick(scene.world.users), scene.draw.pick(scene.world.sites)
    modified = {"Group.ObjectID": (site.group_id, ""), "Group.DisplayName": (site.title, "")}
    operation = scene.draw.pick(("Add member to group.", "Remove member from group."))
    return _change(scene, operation, "Group", user.upn, user.actor, changes(modified))


def consented(scene: Scene) -> Record:
    """Consent to an application."""
    app_id = scene.world.ids[8 + scene.draw.below(6)]
    grant = f"Id: {scene.draw.token(43)}, ClientId: {app_id}, PrincipalId: {scene.session.user.id}, ResourceId: {GRAPH}"
    modified = {
        "ConsentContext.IsAdminConsent": ("False", ""),
        "ConsentContext.IsAppOnly": ("False", ""),
        "ConsentContext.OnBehalfOfAll": ("False", ""),
        "ConsentAction.Permissions": (
            f"[] => [[{grant}, ConsentType: Principal, Scope: Mail.Read offline_access]]; ",
            "",
        ),
        "TargetId.ServicePrincipalNames": (app_id, ""),
    }
    return _change(
        scene, "Consent to application.", "ServicePrincipal", app_id, _app_target(scene, app_id), changes(modified)
    )


def application_updated(scene: Scene) -> Record:
    """An application's permissions changed: indented JSON text, at times tens of thousands of characters."""
    draw = scene.draw
    app_id = scene.world.ids[8 + draw.below(6)]
    count = 150 + draw.below(120) if draw.chance(0.004) else 1 + int(draw.random() ** 4 * 22)
    entries = ",\r\n".join([_PERMISSION.format(draw.guid()) for _ in range(count)])
    access = _ACCESS.format(GRAPH, entries)
    modified = changes(
        {"RequiredResourceAccess": (access, "[]"), "Included Updated Properties": ("RequiredResourceAccess", "")}
    )
    target = _app_target(scene, app_id)
    return _change(scene, "Update application.", "Application", f"Application_{app_id}", target, modified)


def principal_updated(scene: Scene) -> Record:
    """A service principal changed by the directory itself."""
    app_id = scene.world.ids[8 + scene.draw.below(6)]
    modified = changes({"TargetId.ServicePrincipalNames": (f"{app_id};api://{app_id}", "")})
    record = _change(
        scene, "Update service principal.", "ServicePrincipal", app_id, _app_target(scene, app_id), modified
    )
    principal = f"ServicePrincipal_{app_id}"
    actor = [
        {"ID": "Microsoft.Azure.SyncFabric", "Type": 1},
        {"ID": principal, "Type": 2},
        {"ID": "ServicePrincipal", "Type": 2},
    ]
    record |= {"UserId": principal, "UserKey": "Not Available", "UserType": 4, "Actor": actor}
    return record


def device_added(scene: Scene) -> Record:
    """A device joined the directory."""
    device = scene.draw.pick(scene.session.user.devices)
    modified = {
        "AccountEnabled": ("[\r\n  true\r\n]", "[]"),
        "CloudDeviceOSType": (f'[\r\n  "{device.platform}"\r\n]', "[]"),
        "CloudDisplayName": (f'[\r\n  "{device.name}"\r\n]', "[]"),
        "DevicePhysicalIds": (f'[\r\n  "[USER-HWID]:{scene.session.user.id}:{scene.draw.below(1 << 52)}"\r\n]', "[]"),
        "DeviceTrustType": ('[\r\n  "AzureAd"\r\n]', "[]"),
        "Included Updated Properties": ("AccountEnabled, CloudDeviceOSType, CloudDisplayName, DevicePhysicalIds", ""),
    }
    target: Target = [
        {"ID": f"Device_{device.id}", "Type": 2},
        {"ID": device.id, "Type": 2},
        {"ID": device.name, "Type": 1},
    ]
    return _change(scene, "Add device.", "Device", f"Device_{device.id}", target, changes(modified))


def _app_target(scene: Scene, app_id: str) -> Target:
    principal = f"ServicePrincipal_{app_id}"
    return [
        {"ID": principal, "Type": 2},
        {"ID": app_id, "Type": 2},
        {"ID": "ServicePrincipal", "Type": 2},
        {"ID": app_id, "Type": 4},
    ]


def _change(scene: Scene, operation: str, category: str, object_id: str, target: Target, modified: Pairs) -> Record:
    world, draw = scene.world, scene.draw
    admin = draw.pick(world.admins) if category != "ServicePrincipal" else scene.session.user
    extended = {
        "additionalDetails": f'{{"User-Agent":"{admin.devices[0].user_agent}","AppId":"{world.ids[14]}"}}',
        "extendedAuditEventCategory": category,
    }
    return scene.record(8, operation, "AzureActiveDirectory") | {
        "ResultStatus": "Success",
        "ObjectId": object_id,
        "UserKey": f"{admin.puid}@{world.domain}",
        "UserId": admin.upn,
        "AzureActiveDirectoryEventType": 1,
        "ExtendedProperties": pairs(extended),
        "ModifiedProperties": modified,
        "Actor": admin.actor,
        "ActorContextId": world.tenant_id,
        "InterSystemsId": draw.guid(),
        "IntraSystemId": draw.guid(),
        "SupportTicketId": "",
        "Target": target,
        "TargetContextId": world.tenant_id,
    }


WEIGHTS: dict[Maker, float] = {
    signed_in: 12.2,
    sign_in_failed: 2.0,
    old_logon: 0.1,
    user_updated: 1.5,
    role_given: 0.3,
    group_changed: 1.4,
    consented: 0.2,
    application_updated: 0.5,
    principal_updated: 1.4,
    device_added: 0.4,
}
