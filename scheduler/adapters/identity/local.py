"""Identity on one machine: the peer of the unix socket is proven by the kernel.

The owner of the control process, and root, may do everything. Where the queue is shared with a group, its other members may read,
plan and submit; what they may do to a job that they submitted themselves is decided where the job is known.
"""

from __future__ import annotations

from scheduler.ports import Action, Principal
from trimtab.jobspec import DEFAULT_PROJECT

ROOT = "root"


class LocalIdentity:
    """``owner`` is a user name, proven by the socket's peer credentials. ``shared``: others who can connect are members.

    Tokens mean nothing here.
    """

    def __init__(self, owner: str, *, shared: bool = False) -> None:
        self._owner = owner
        self._shared = shared

    def authenticate(self, token: str | None, *, local_user: str | None) -> Principal | None:
        """See the port."""
        if local_user in (self._owner, ROOT):
            return Principal(name=local_user, role="owner", projects=(DEFAULT_PROJECT,))
        if local_user is None or not self._shared:
            return None
        return Principal(name=local_user, role="member", projects=(DEFAULT_PROJECT,))

    def allowed(self, principal: Principal, action: Action, project: str) -> bool:
        """See the port."""
        return principal.role == "owner" or action in (Action.READ, Action.SUBMIT)
