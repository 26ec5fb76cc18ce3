"""Client of the control plane's REST API, over its unix socket or HTTPS. Standard library only."""

from trimtab.client.client import Client
from trimtab.client.follow import LogPiece, follow_log
from trimtab.client.problems import error_of_problem, problem_of_error
from trimtab.client.transport import Response, Transport, local_address

__all__ = [
    "Client",
    "LogPiece",
    "Response",
    "Transport",
    "error_of_problem",
    "follow_log",
    "local_address",
    "problem_of_error",
]
