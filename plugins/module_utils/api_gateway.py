# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the modules for API Gateway's REST APIs share: paging, whose a resource is, ARNs, patch operations, policies.

The service allows its callers little, and counts per account: most calls together 10 a second, GetResources 5 in 2
seconds, CreateRestApi 1 in 3 seconds, CreateDeployment 1 in 5, UpdateUsagePlan 1 in 20, DeleteRestApi 1 in 30
(https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html). So: few calls, large pages, many retries.
"""

from __future__ import annotations

import hashlib
import json

from ansible_collections.mlops.metaflow.plugins.module_utils import diff
from ansible_collections.mlops.metaflow.plugins.module_utils.discovery import TAG_ENVIRONMENT, TAG_STACK
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import AwsResource

#: What check mode says where AWS will choose an id.
PREDICTED = "(predicted)"


class ApiGatewayResource(AwsResource):
    """A resource of API Gateway that is found by its name and its stack's tags, because its id is AWS's choice."""

    service = "apigateway"
    #: The resource's collection in ARNs: "restapis".
    collection = ""

    def __init__(self, module):
        super().__init__(module)
        #: All that are ours by name and tags, the one that counts first; see :meth:`find`.
        self.found = []

    def items(self, operation, **arguments):
        """Return all items of a paged reading operation, in pages of 500, the most that AWS gives."""
        pages = self.client.get_paginator(operation).paginate(PaginationConfig={"PageSize": 500}, **arguments)
        return [item for page in pages for item in page.get("items", [])]

    def find(self, items, rank=lambda item: 0):
        """Return the one of ``items`` that is this resource, or None; all that are are then in ``self.found``.

        :param rank: function of an item; the lowest counts, among equals the oldest.
        """
        self.found = self.ours(self.kind, self.name, items, rank)
        if not self.found:
            return None
        return {**self.found[0], "arn": self.arn(self.found[0]["id"]), "tags": self.found[0].get("tags") or {}}

    def ours(self, kind, name, items, rank=lambda item: 0):
        """Return those of ``items`` that are named ``name`` and ours, the one that counts first; name the others.

        A run that was killed after a create, or two runs at once, may have left a second one: names are not unique.
        """
        found = sorted(
            owned(items, name, self.params.get("tags")),
            key=lambda item: (rank(item), str(item.get("createdDate", "")), item["id"]),
        )
        if len(found) > 1 and self.params["state"] == "present":
            first, *others = (item["id"] for item in found)
            self.module.warn(
                f"There is more than one {kind} named '{name}': {first} counts, and {', '.join(others)} "
                "stays as it is. Delete what nothing uses any more."
            )
        return found

    def arn(self, path):
        """Return the ARN of an id, or of a path below one ("abc123/stages/api"); API Gateway's have no account."""
        return f"arn:{self.client.meta.partition}:{self.service}:{self.module.region}::/{self.collection}/{path}"

    def predict(self, desired):
        return {"id": PREDICTED, "arn": self.arn(PREDICTED)}

    def tag(self, live, tags):
        self.client.tag_resource(resourceArn=live["arn"], tags=tags)

    def untag(self, live, keys):
        self.client.untag_resource(resourceArn=live["arn"], tagKeys=keys)


def owned(items, name, tags):
    """Return the items that are named ``name`` and belong to the stack and environment that ``tags`` tell.

    Two stacks may use one name, so the name alone decides only where the declared tags don't say whose it is. The
    other tags don't count: they may be about to change.
    """
    owner = {key: value for key, value in (tags or {}).items() if key in (TAG_STACK, TAG_ENVIRONMENT)}
    return [item for item in items if item["name"] == name and owner.items() <= (item.get("tags") or {}).items()]


def patch(operation, path, value=None):
    """Return a patch operation.

    :param str operation: "add", "replace" or "remove".
    :param path: the parts of the JSON pointer, unescaped: ``("variables", "a/b")``.
    :param value: text, number or boolean; None where the operation has none.
    """
    pointer = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return {"op": operation, "path": pointer} | ({} if value is None else {"value": text(value)})


def text(value):
    """Return a value as patch operations spell it: "true", "10", "2.5"."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def parsed_policy(text, execution_arn):
    """Return a REST API's resource policy as a map, the API's own ARN in short; ``{}`` where it has none.

    AWS gives the JSON text as it stands inside of a JSON string, with its quotes escaped once more, and with the short
    ``execute-api:/…`` written out.

    :param str execution_arn: ``arn:aws:execute-api:{region}:{account}:{API id}``.
    """
    if not text:
        return {}
    return json.loads(_unescaped(text).replace(f'"{execution_arn}/', '"execute-api:/'))


def _unescaped(text):
    try:
        json.loads(text)
    except ValueError:
        return json.loads(f'"{text}"')
    return text


def normal_policy(policy, execution_arn=""):
    """Return a policy in the one form that all policies of the same meaning share.

    Lists are sets, a list of one is its item, numbers and booleans are texts, the principal ``{"AWS": "*"}`` is
    ``"*"``, and the ARN of the API itself is written in short.

    :param str execution_arn: ``arn:aws:execute-api:{region}:{account}:{API id}``, or "" while there is none.
    """
    if isinstance(policy, dict):
        normal = {key: normal_policy(value, execution_arn) for key, value in policy.items()}
        return "*" if normal == {"AWS": "*"} else normal
    if isinstance(policy, list):
        items = sorted((normal_policy(item, execution_arn) for item in policy), key=diff.canonical)
        return items[0] if len(items) == 1 else items
    if isinstance(policy, bool | int):
        return text(policy)
    if execution_arn and policy.startswith(execution_arn + "/"):
        return "execute-api:" + policy.removeprefix(execution_arn)
    return policy


def digest(value):
    """Return ``sha256:…`` of a value that JSON can hold; equal values give equal digests."""
    return "sha256:" + hashlib.sha256(diff.canonical(value).encode()).hexdigest()
