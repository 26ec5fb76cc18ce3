"""Identity of the per-user control process: the peer of the unix socket is the user, and the user may do everything."""

from __future__ import annotations

from scheduler.ports import Action, Principal
from trimtab.jobspec import DEFAULT_PROJECT


class LocalIdentity:
    """Only ``owner`` (a user name, proven by the socket's peer credentials) is known. Tokens mean nothing here."""

    def __init__(self, owner: str) -> None:
        self._owner = owner

    def authenticate(self, token: str | None, *, local_user: str | None) -> Principal | None:
        """See the port."""
        if local_user is None or local_user != self._owner:
            return None
        return Principal(name=local_user, role="owner", projects=(DEFAULT_PROJECT,))

    def allowed(self, principal: Principal, action: Action, project: str) -> bool:
        """See the port."""
        return principal.name == self._owner and principal.role == "owner"
