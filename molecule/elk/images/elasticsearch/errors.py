# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is answered where a request can't be served, in Elasticsearch's form."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """An answer that isn't a good one."""

    def __init__(self, status: int, kind: str, reason: str, **more: Any) -> None:
        super().__init__(reason)
        self.status = status
        self.error = {"type": kind, "reason": reason, **more}

    def body(self) -> dict[str, Any]:
        """Return the answer's content."""
        return {"error": {"root_cause": [self.error], **self.error}, "status": self.status}


def invalid(*reasons: str) -> ApiError:
    """Return the answer to a request that is refused as a whole."""
    numbered = "".join(f"{number}: {reason};" for number, reason in enumerate(reasons, 1))
    return ApiError(400, "action_request_validation_exception", f"Validation Failed: {numbered}")


def illegal(reason: str) -> ApiError:
    """Return the answer to an argument that can't be."""
    return ApiError(400, "illegal_argument_exception", reason)


def unparsed(reason: str) -> ApiError:
    """Return the answer to a body that has what it may not have."""
    return ApiError(400, "parse_exception", reason)


def only(body: Any, known: set[str], what: str) -> dict[str, Any]:
    """Return a body, if it is a map of known fields."""
    if not isinstance(body, dict):
        raise unparsed("request body is required")
    for field in body:
        if field not in known:
            raise unparsed(f"failed to parse {what}. unexpected field [{field}]")
    return body
