"""Refusals: every error answer of the API, with statuses from `schemas/tables/api_errors.csv`."""

from collections.abc import Mapping

from starlette.responses import JSONResponse

from schemas.contract import api_errors

_WINDOW = (
    "Start time and end time must both be specified (or both omitted) and must be less than or equal to 24 hours "
    "apart, with the start time {order}no more than 7 days in the past. StartTime: {start} EndTime: {end}"
)

# Texts are for people; clients branch on the code. The exception is "429": clients read the wait from it.
MESSAGES: Mapping[str, str] = {
    "AF10001": "The permission set ({roles}) sent in the request does not include the expected permission.",
    "AF20001": "Missing parameter: {name}.",
    "AF20002": "Invalid parameter type: {name}. Expected type: {expected}",
    "AF20003": "Expiration {time} provided is set to past date and time.",
    "AF20010": "The tenant ID in the URL ({path}) does not match the tenant ID in the access token ({token}).",
    "AF20011": "Specified tenant ID ({tenant}) does not exist in the system or has been deleted.",
    "AF20012": "Specified tenant ID ({tenant}) is incorrectly configured in the system.",
    "AF20013": "The tenant ID in the URL ({tenant}) is not a valid GUID.",
    "AF20020": "The specified content type is not valid.",
    "AF20021": "The webhook endpoint {address} could not be validated. {reason}",
    "AF20022": "No subscription found for the specified content type.",
    "AF20023": "The subscription was disabled by {who}.",
    "AF20024": "The subscription is already enabled. No property change.",
    "AF20030": _WINDOW.replace("{order}", ""),
    "AF20031": "Invalid nextPage Input: {token}.",
    "AF20050": "The specified content ({content_id}) does not exist.",
    "AF20051": "Content requested with the key {content_id} has already expired. It cannot be retrieved any more.",
    "AF20052": "Blob key {content_id} in the URL is invalid.",
    "AF20053": "Only one language may be present in the Accept-Language header.",
    "AF20054": "Invalid syntax in Accept-Language header.",
    "AF20055": _WINDOW.replace("{order}", "prior to end time and "),
    "AF429": "Too many requests. Method={method}, PublisherId={publisher}",
    "429": "Too many frequent subscription start requests. Please retry again after {minutes}m {seconds}s.",
    "AF50000": "An internal error occurred. Retry the request.",
    "AF50005": "An internal error occurred. Retry the request.",
    "AF50006": "An internal error occurred. Retry the request.",
}


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not a failure of the service
    """An answer that is not 200, raised wherever it is decided."""

    def __init__(self, status: int, body: object, headers: Mapping[str, str] | None = None):
        super().__init__(status, body)
        self.status = status
        self.body = body
        self.headers = headers

    def response(self) -> JSONResponse:
        """Returns it as an HTTP answer."""
        return JSONResponse(self.body, self.status, self.headers)


def af(code: str, **values: object) -> Refusal:
    """Returns the refusal of an error code, its message filled with `values`."""
    return Refusal(api_errors()[code].http, {"error": {"code": code, "message": MESSAGES[code].format(**values)}})


def denied() -> Refusal:
    """Returns the 401 of a missing, expired or foreign token: no AF code, and a capital M (contract 11.3)."""
    message = {"Message": "Authorization has been denied for this request."}
    return Refusal(401, message, {"WWW-Authenticate": "Bearer"})


def auditing_off(operation: str, tenant: str, content_type: str, client_id: str, publisher: str, corr: str) -> Refusal:
    """Returns the .NET text that stands in for an error code where auditing is off (contract 11.4)."""
    code = (
        f"{operation} [CorrId={corr}][TenantId={tenant},ContentType={content_type},"
        f"ApplicationId={client_id},PublisherId={publisher}][AppId"
    )
    message = (
        f"{client_id}][IpAddress127.0.0.1] failed with Microsoft.Office.Compliance.Audit.DataServiceException: "
        f"Tenant {tenant} does not exist.\r\n   at Microsoft.Office.Compliance.Audit.API.{operation}()"
    )
    return Refusal(400, {"error": {"code": code, "message": message}})
