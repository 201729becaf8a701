# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads what a component has in the account, in concurrent calls, as one document, to compare two moments by.

A document is ``{call: answer}``: the label of each reading call and its answer in JSON's terms, without what AWS
changes by itself. The table of calls, component by component, is in ``live_reads.py``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    from botocore.exceptions import BotoCoreError, ClientError

#: As many connections as a client of botocore keeps.
MAX_WORKERS = 10

#: What AWS changes without anybody's doing, and no role sets.
VOLATILE = frozenset(
    {
        "ResponseMetadata",
        "AvailableIpAddressCount",  # subnets
        "RoleLastUsed",
        "AttachmentCount",  # policies: who else has them
        "LastAccessedDate",  # secrets
        "LastAuthorizedTime",  # connections of EventBridge
        "LatestRestorableTime",  # RDS
        "EarliestRestorableDateTime",
        "LatestRestorableDateTime",  # DynamoDB
        "ItemCount",
        "TableSizeBytes",
        "TableStatus",
        "storedBytes",  # log groups
        "desiredvCpus",  # Batch scales compute environments
        "deployments",  # ECS services: how they came to be what the rest says
        "events",
        "pendingCount",
        "registeredContainerInstancesCount",  # ECS clusters
        "runningTasksCount",
        "pendingTasksCount",
        "activeServicesCount",
        "statistics",
        "lastEvaluatedAt",  # lifecycle policies of repositories
    }
)


@dataclass(frozen=True)
class Read:
    """One reading call, and the calls that its answer leads to."""

    #: name of the service, as boto3 has it
    service: str
    #: name of the operation, as boto3 has it
    operation: str
    arguments: dict = field(default_factory=dict)
    #: function of the answer that returns further Reads
    then: Callable[[dict], Iterable[Read]] | None = None
    #: function of the answer that returns what of it is the component's own, for calls that list a whole region's
    only: Callable[[dict], dict] | None = None

    @property
    def label(self):
        """What was asked, e.g. ``rds describe_db_instances DBInstanceIdentifier=metaflow-prod``."""
        asked = [f"{key}={value}" for key, value in self.arguments.items() if key != "Filters"]
        return " ".join([self.service, self.operation, *asked])


def read_documents(reads, client):
    """Make the reading calls of all components at once.

    :param dict reads: component -> list of Read.
    :param client: function of a service's name that returns a boto3 client.
    :returns: ``(documents, unreadable)``: component -> document, and component -> why one of its calls failed. That a
        resource isn't there, or a call isn't allowed for it, is an answer too: it stands in the document by its code.
    """
    documents = {component: {} for component in reads}
    unreadable = {}
    with ThreadPoolExecutor(MAX_WORKERS) as pool:
        pending = {}

        def submit(component, items):
            pending.update({pool.submit(_answer, read, client): (component, read) for read in items})

        for component, items in reads.items():
            submit(component, items)
        while pending:
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                component, read = pending.pop(future)
                try:
                    answer = future.result()
                except (BotoCoreError, ClientError) as error:
                    unreadable[component] = f"{read.label}: {error}"
                    continue
                if read.only and "Error" not in answer:
                    answer = read.only(answer)
                documents[component][read.label] = lasting(answer)
                if read.then and "Error" not in answer:
                    submit(component, read.then(answer))
    return {name: document for name, document in documents.items() if name not in unreadable}, unreadable


def _answer(read, client):
    """Return the answer, its pages joined; ``{"Error": code}`` where there is no such thing."""
    service = client(read.service)
    try:
        if not service.can_paginate(read.operation):
            return getattr(service, read.operation)(**read.arguments)
        joined = {}
        for page in service.get_paginator(read.operation).paginate(**read.arguments):
            for key, value in page.items():
                joined[key] = [*joined.get(key, []), *value] if isinstance(value, list) else value
        return joined
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if not _says_absent(code):
            raise
        return {"Error": code}


def _says_absent(code):
    """Tell whether an error says that the thing asked for isn't there: each service has words of its own for it."""
    return code.startswith(("NoSuch", "404")) or "NotFound" in code or code == "ClientException"


def lasting(value):
    """Return an answer in JSON's terms: without what is volatile, and with lists in one order, as AWS keeps none."""
    if isinstance(value, dict):
        return {key: lasting(item) for key, item in sorted(value.items()) if key not in VOLATILE}
    if isinstance(value, list | tuple):
        return sorted((lasting(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    return str(value)


def digest(value):
    """Return a digest of something in JSON's terms."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


#: The keys by which AWS names a thing in a list, the telling ones first.
NAMES = (
    "Name", "GroupName", "LaunchTemplateName", "RoleName", "PolicyName", "alias", "AliasName", "jobQueueName",
    "computeEnvironmentName", "serviceName", "clusterName", "family", "name", "path", "Key", "key", "Sid", "SubnetId",
    "VpcId", "RouteTableId", "AllocationId", "NatGatewayId", "InternetGatewayId", "VpcEndpointId", "id", "ID",
    "DestinationCidrBlock", "DestinationPrefixListId", "GroupId", "CidrIp", "ParameterName", "KeyId",
)  # fmt: skip


def _by_name(items):
    """Return a list's items by what AWS names them by; of the same name, the later ones with their position."""
    named = {}
    for position, item in enumerate(items):
        name = _name(item)
        named[f"{name} {position}".strip() if name in named or not name else name] = item
    return named


def _name(item):
    if not isinstance(item, dict):
        return json.dumps(item)
    tags = {tag.get("Key"): tag.get("Value") for tag in item.get("Tags", []) if isinstance(tag, dict)}
    found = [tags.get("Name"), *(item.get(key) for key in NAMES)]
    return next((name for name in found if isinstance(name, str) and name), "")


def differences(recorded, live, path=""):
    """Return ``[{"path", "recorded", "live"}]``: what differs between two documents, attribute by attribute.

    A thing that only one of them has is one difference, whose other side is None.
    """
    if isinstance(recorded, list) and isinstance(live, list):
        recorded, live = _by_name(recorded), _by_name(live)
        return _of_maps(recorded, live, lambda key: f"{path}[{key}]")
    if isinstance(recorded, dict) and isinstance(live, dict):
        return _of_maps(recorded, live, lambda key: f"{path}.{key}" if path else key)
    return [] if recorded == live else [{"path": path, "recorded": recorded, "live": live}]


def _of_maps(recorded, live, path_of):
    return [
        difference
        for key in sorted({*recorded, *live})
        for difference in differences(recorded.get(key), live.get(key), path_of(key))
    ]
