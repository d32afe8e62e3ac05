"""Authorization: the dependency that stands at each route, and for which purpose somebody asks.

``Depends(require(Role.CLINICIAN))`` admits whoever has one of the roles and gives the route its ``Principal``. How a
request proves who sends it is ``serving.security.access``.
"""

from fastapi import Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from mediscale.core.errors import InputError
from serving.log.logged_answers import Requester
from serving.security.access import Access
from serving.security.principal import PURPOSES, Principal, RefusedError, Role

PURPOSE_HEADER = "Purpose-Of-Use"


class Require(SecurityBase):
    """The dependency of a route: admits whoever has one of the roles; FastAPI names it in the OpenAPI document."""

    def __init__(self, *roles: Role, takes_link: bool = False) -> None:
        self.roles, self._takes_link = frozenset(roles), takes_link
        self.model = HTTPBearer(
            description="An API key (`mediscale keys create`) or the hospital's token (OIDC)"
        )
        self.scheme_name = "key or token"

    async def __call__(self, request: Request) -> Principal:
        access: Access = request.app.state.service.access
        return await access.admit(request, self.roles, self._takes_link)


def require(*roles: Role, takes_link: bool = False) -> Require:
    """Admits whoever has one of these roles or, where it ``takes_link``, a link that a card of CDS Hooks has.

    Raises:
        RefusedError: 401 without a valid key or token, 403 without a role, 421 or 403 for another host or site, 429
            beyond a rate.
    """
    return Require(*roles, takes_link=takes_link)


def check_role(principal: Principal, role: Role, what: str) -> None:
    """Checks a role that only a part of what a route does needs.

    Raises:
        RefusedError: 403, whoever asks has not the role.
    """
    if role not in principal.roles:
        raise RefusedError(403, f"{what} needs the role {role}; ask without it.")


def requester(request: Request, principal: Principal) -> Requester:
    """Who asks, and the purpose of use: the one that the request states, else the principal's default.

    Raises:
        InputError: it is none of the words.
    """
    stated = request.headers.get(PURPOSE_HEADER)
    if stated is None:
        return Requester(principal.name, principal.default_purpose)
    for purpose in PURPOSES:
        if stated.strip().lower() == purpose:
            return Requester(principal.name, purpose)
    raise InputError(f"{PURPOSE_HEADER} must be one of {', '.join(PURPOSES)}.")
