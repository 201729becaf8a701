# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How each kind of resource is found in the account: one reader a kind, each one (paged) call.

A reader returns ``{name: {"id": …, …}}`` for the resources of this stack. Resources that carry tags are found by
the stack's tags and named by their ``Name`` tag (or by their own name); those whose API has no tag filter are
found by the names that the caller asks for.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from ansible_collections.mlops.metaflow.plugins.module_utils.image_source import content_tags
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import patient_client

TAG_STACK = "mlops.metaflow/stack"
TAG_ENVIRONMENT = "mlops.metaflow/environment"
TAG_COMPONENT = "mlops.metaflow/component"


@dataclass(frozen=True)
class Scope:
    """Whose resources are looked for, and how AWS is reached."""

    #: value of the tag mlops.metaflow/stack
    stack: str
    #: value of the tag mlops.metaflow/environment
    environment: str
    #: function of a service's name that returns a boto3 client
    client: object

    @property
    def tags(self):
        return {TAG_STACK: self.stack, TAG_ENVIRONMENT: self.environment}

    def owns(self, tags):
        """Tell whether a map of tags says that the resource belongs to this stack."""
        return all(tags.get(key) == value for key, value in self.tags.items())


def client_factory(module):
    """Return a function service -> boto3 client that makes each client once, whichever thread asks first."""
    lock, made = Lock(), {}

    def client(service):
        with lock:
            if service not in made:
                made[service] = patient_client(module, service)
            return made[service]

    return client


def tag_map(tags):
    """Return ``[{"Key": k, "Value": v}]`` (EC2, ELB …) or ``[{"key": k, "value": v}]`` (ECS) as a map."""
    return {tag.get("Key", tag.get("key")): tag.get("Value", tag.get("value")) for tag in tags or []}


@contextmanager
def absent_when(*codes):
    """Let the reader's loop go on when AWS answers that the thing asked for doesn't exist."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in codes:
            raise


def _ec2(operation, result_key, id_key, dead=(), extra=None):
    """Make the reader of a kind of EC2 resource, which all have the same tag filters.

    :param dead: values of the resource's State that mean "gone" (EC2 shows deleted NAT gateways for an hour).
    :param extra: function of the described resource that returns more keys for the result.
    """

    def read(scope, names):
        client = scope.client("ec2")
        filters = [{"Name": f"tag:{key}", "Values": [value]} for key, value in scope.tags.items()]
        found = {}
        # DescribeAddresses has no pages.
        pages = (
            client.get_paginator(operation).paginate(Filters=filters)
            if client.can_paginate(operation)
            else [getattr(client, operation)(Filters=filters)]
        )
        for page in pages:
            for item in page[result_key]:
                if item.get("State") in dead:
                    continue
                tags = tag_map(item.get("Tags"))
                name = item.get("GroupName") or item.get("LaunchTemplateName") or tags.get("Name", item[id_key])
                found[name] = {"id": item[id_key], "tags": tags, **(extra(item) if extra else {})}
        return found

    return read


def read_adopted(scope, kind, named):
    """Return ``{name: resource}`` for VPCs or subnets that aren't the stack's own and are known by their ids.

    :param dict named: name → id.
    :raises ClientError: if there is none of such an id.
    """
    operation, result_key, id_key, extra = ADOPTABLE[kind]
    found = getattr(scope.client("ec2"), operation)(**{f"{id_key}s": sorted(set(named.values()))})[result_key]
    by_id = {item[id_key]: item for item in found}
    return {
        name: {
            "id": identifier,
            "tags": tag_map(by_id[identifier].get("Tags")),
            "adopted": True,
            **extra(by_id[identifier]),
        }
        for name, identifier in named.items()
    }


def _vpc(item):
    return {"cidr_block": item["CidrBlock"]}


def _subnet(item):
    return {"availability_zone": item["AvailabilityZone"], "cidr_block": item["CidrBlock"], "vpc_id": item["VpcId"]}


def _in_vpc(item):
    return {"vpc_id": item["VpcId"]}


def _internet_gateway(item):
    return {"vpc_ids": [attachment["VpcId"] for attachment in item.get("Attachments", [])]}


def _instances(scope, names):
    """Find instances that have not ended. A second one of a name has its id beside it, so that it is seen."""
    filters = [
        *({"Name": f"tag:{key}", "Values": [value]} for key, value in scope.tags.items()),
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
    ]
    found = {}
    for page in scope.client("ec2").get_paginator("describe_instances").paginate(Filters=filters):
        for item in [one for reservation in page["Reservations"] for one in reservation["Instances"]]:
            tags = tag_map(item.get("Tags"))
            name = tags.get("Name", item["InstanceId"])
            found[f"{name} {item['InstanceId']}" if name in found else name] = {
                "id": item["InstanceId"],
                "status": item["State"]["Name"],
                "subnet_id": item.get("SubnetId", ""),
                "tags": tags,
            }
    return found


def _volume(item):
    return {"availability_zone": item["AvailabilityZone"], "size": item["Size"]}


def _snapshots(scope, names):
    """Find snapshots of volumes by their ids: those of one volume have one name."""
    filters = [{"Name": f"tag:{key}", "Values": [value]} for key, value in scope.tags.items()]
    pages = scope.client("ec2").get_paginator("describe_snapshots").paginate(OwnerIds=["self"], Filters=filters)
    found = [item for page in pages for item in page["Snapshots"]]
    return {item["SnapshotId"]: {"id": item["SnapshotId"], "tags": tag_map(item.get("Tags"))} for item in found}


def _lifecycle_policies(scope, names):
    return {
        item["Tags"].get("Name", item["PolicyId"]): {"id": item["PolicyId"], "tags": item["Tags"]}
        for item in scope.client("dlm").get_lifecycle_policies()["Policies"]
        if scope.owns(item.get("Tags", {}))
    }


def _roles(scope, names):
    found = {}
    for name in names:
        with absent_when("NoSuchEntity"):
            item = scope.client("iam").get_role(RoleName=name)["Role"]
            found[name] = {"id": item["RoleId"], "arn": item["Arn"], "tags": tag_map(item.get("Tags"))}
    return found


def _load_balancers(scope, names):
    client = scope.client("elbv2")
    found = {}
    for name in names:
        with absent_when("LoadBalancerNotFound"):
            item = client.describe_load_balancers(Names=[name])["LoadBalancers"][0]
            found[name] = {
                "id": item["LoadBalancerArn"],
                "arn": item["LoadBalancerArn"],
                "dns_name": item["DNSName"],
                "status": item["State"]["Code"],
            }
    return found


def _target_groups(scope, names):
    client = scope.client("elbv2")
    found = {}
    for name in names:
        with absent_when("TargetGroupNotFound"):
            item = client.describe_target_groups(Names=[name])["TargetGroups"][0]
            found[name] = {"id": item["TargetGroupArn"], "arn": item["TargetGroupArn"]}
    return found


def _rest_apis(scope, names):
    pages = scope.client("apigateway").get_paginator("get_rest_apis").paginate()
    return {
        item["name"]: {"id": item["id"], "tags": item.get("tags", {})}
        for page in pages
        for item in page["items"]
        if item["name"] in names and scope.owns(item.get("tags", {}))
    }


def _vpc_links(scope, names):
    pages = scope.client("apigateway").get_paginator("get_vpc_links").paginate()
    return {
        item["name"]: {"id": item["id"], "status": item["status"], "tags": item.get("tags", {})}
        for page in pages
        for item in page["items"]
        if item["name"] in names and scope.owns(item.get("tags", {}))
    }


def _api_keys(scope, names):
    found = {}
    for name in names:  # nameQuery is a prefix search
        pages = scope.client("apigateway").get_paginator("get_api_keys").paginate(nameQuery=name, includeValues=False)
        for page in pages:
            found |= {item["name"]: {"id": item["id"]} for item in page["items"] if item["name"] == name}
    return found


def _batch(operation, result_key, name_key, arn_key):
    """Make the reader of a kind of Batch, whose listing shows tags. What is being deleted is shown too."""

    def read(scope, names):
        pages = scope.client("batch").get_paginator(operation).paginate()
        return {
            item[name_key]: {
                "id": item[arn_key],
                "arn": item[arn_key],
                "status": item["status"],
                "tags": item.get("tags", {}),
            }
            for page in pages
            for item in page[result_key]
            if item["status"] != "DELETED" and scope.owns(item.get("tags", {}))
        }

    return read


def _db_instances(scope, names):
    client = scope.client("rds")
    found = {}
    for name in names:
        with absent_when("DBInstanceNotFound", "DBInstanceNotFoundFault"):
            item = client.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]
            endpoint = item.get("Endpoint", {})
            found[name] = {
                "id": item["DBInstanceIdentifier"],
                "arn": item["DBInstanceArn"],
                "address": endpoint.get("Address", ""),
                "port": endpoint.get("Port", 5432),
                "status": item["DBInstanceStatus"],
                "deletion_protection": item.get("DeletionProtection", False),
                "allocated_storage": item.get("AllocatedStorage", 0),
                "tags": tag_map(item.get("TagList")),
            }
    return found


def _kms_keys(scope, names):
    """Find keys by alias; an alias may outlive its key's deletion, so a key pending deletion is no key."""
    client = scope.client("kms")
    found = {}
    for name in names:
        with absent_when("NotFoundException"):
            item = client.describe_key(KeyId=name)["KeyMetadata"]
            if item["KeyState"] != "PendingDeletion":
                found[name] = {"id": item["KeyId"], "arn": item["Arn"], "status": item["KeyState"]}
    return found


def _secrets(scope, names):
    client = scope.client("secretsmanager")
    found = {}
    for name in names:
        with absent_when("ResourceNotFoundException"):
            item = client.describe_secret(SecretId=name)
            if "DeletedDate" not in item:
                found[name] = {"id": item["ARN"], "arn": item["ARN"], "tags": tag_map(item.get("Tags"))}
    return found


def _flow_secrets(scope, names):
    """Find the secrets below each given prefix, e.g. ``metaflow-prod/flows``."""
    pages = (
        page
        for name in names
        for page in scope.client("secretsmanager")
        .get_paginator("list_secrets")
        .paginate(Filters=[{"Key": "name", "Values": [name + "/"]}])
    )
    return {
        item["Name"]: {"id": item["ARN"], "arn": item["ARN"], "tags": tag_map(item.get("Tags"))}
        for page in pages
        for item in page["SecretList"]
        if "DeletedDate" not in item
    }


def _state_machines(scope, names):
    """Find the stack's state machines whose names begin with one of ``names``."""
    client = scope.client("stepfunctions")
    found = {}
    for page in client.get_paginator("list_state_machines").paginate():
        for item in page["stateMachines"]:
            arn = item["stateMachineArn"]
            if not item["name"].startswith(tuple(names)):
                continue
            with absent_when("StateMachineDoesNotExist", "ResourceNotFound"):
                tags = tag_map(client.list_tags_for_resource(resourceArn=arn)["tags"])
                status = client.describe_state_machine(stateMachineArn=arn)["status"]
                if scope.owns(tags) and status != "DELETING":
                    found[item["name"]] = {"id": arn, "arn": arn, "status": status, "tags": tags}
    return found


def _started_by_running(scope, names):
    """Find what running executions of state machines may start: they go on as they began."""
    client = scope.client("stepfunctions")
    found = {}
    for name, machine in _state_machines(scope, names).items():
        pages = client.get_paginator("list_executions").paginate(stateMachineArn=machine["arn"], statusFilter="RUNNING")
        running = [item["executionArn"] for page in pages for item in page["executions"]]
        definitions = {client.describe_state_machine_for_execution(executionArn=arn)["definition"] for arn in running}
        started = {arn for text in definitions for arn in re.findall(r'"StateMachineArn": *"([^"]+)"', text)}
        if running:
            found[name] = {"id": machine["arn"], "machines": sorted(started)}
    return found


def _event_rules(scope, names):
    """Find the stack's rules of EventBridge whose names begin with one of ``names``."""
    client = scope.client("events")
    found = {}
    for name in names:
        for page in client.get_paginator("list_rules").paginate(NamePrefix=name):
            for item in page["Rules"]:
                with absent_when("ResourceNotFoundException"):
                    tags = tag_map(client.list_tags_for_resource(ResourceARN=item["Arn"])["Tags"])
                    if scope.owns(tags):
                        found[item["Name"]] = {"id": item["Arn"], "arn": item["Arn"], "tags": tags}
    return found


def _flow_images(scope, names):
    """Find images by ``repository:tag``, with the tag that says the image's content."""
    client = scope.client("ecr")
    found = {}
    for name in names:
        repository, tag = name.rsplit(":", 1)
        with absent_when("ImageNotFoundException", "RepositoryNotFoundException"):
            answer = client.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
            item = answer["imageDetails"][0]
            found[name] = {"id": item["imageDigest"], "tag": next(iter(content_tags(item.get("imageTags"))), tag)}
    return found


def _codebuild_projects(scope, names):
    items = scope.client("codebuild").batch_get_projects(names=names)["projects"]
    return {item["name"]: {"id": item["arn"], "arn": item["arn"], "tags": tag_map(item.get("tags"))} for item in items}


def _availability_zones(scope, names):
    zones = scope.client("ec2").describe_availability_zones(
        Filters=[{"Name": "zone-type", "Values": ["availability-zone"]}, {"Name": "state", "Values": ["available"]}]
    )["AvailabilityZones"]
    return {zone["ZoneName"]: {"id": zone["ZoneId"]} for zone in zones}


#: kind -> reader. The kind is AWS's own word for the resource.
READERS = {
    "availability_zone": _availability_zones,
    "vpc": _ec2("describe_vpcs", "Vpcs", "VpcId", extra=_vpc),
    "subnet": _ec2("describe_subnets", "Subnets", "SubnetId", extra=_subnet),
    "internet_gateway": _ec2(
        "describe_internet_gateways", "InternetGateways", "InternetGatewayId", extra=_internet_gateway
    ),
    "nat_gateway": _ec2(
        "describe_nat_gateways",
        "NatGateways",
        "NatGatewayId",
        dead=("deleted", "failed"),
        extra=lambda item: {"status": item["State"]},
    ),
    "address": _ec2("describe_addresses", "Addresses", "AllocationId"),
    "route_table": _ec2("describe_route_tables", "RouteTables", "RouteTableId", extra=_in_vpc),
    "vpc_endpoint": _ec2(
        "describe_vpc_endpoints",
        "VpcEndpoints",
        "VpcEndpointId",
        dead=("deleted", "deleting", "Deleted", "Deleting"),
        extra=_in_vpc,
    ),
    "instance": _instances,
    "volume": _ec2("describe_volumes", "Volumes", "VolumeId", dead=("deleting", "deleted"), extra=_volume),
    "snapshot": _snapshots,
    "lifecycle_policy": _lifecycle_policies,
    "role": _roles,
    "security_group": _ec2("describe_security_groups", "SecurityGroups", "GroupId", extra=_in_vpc),
    "launch_template": _ec2("describe_launch_templates", "LaunchTemplates", "LaunchTemplateId"),
    "load_balancer": _load_balancers,
    "target_group": _target_groups,
    "rest_api": _rest_apis,
    "vpc_link": _vpc_links,
    "api_key": _api_keys,
    "job_queue": _batch("describe_job_queues", "jobQueues", "jobQueueName", "jobQueueArn"),
    "compute_environment": _batch(
        "describe_compute_environments", "computeEnvironments", "computeEnvironmentName", "computeEnvironmentArn"
    ),
    "db_instance": _db_instances,
    "kms_key": _kms_keys,
    "secret": _secrets,
    "flow_secret": _flow_secrets,
    "state_machine": _state_machines,
    "started_by_running": _started_by_running,
    "flow_image": _flow_images,
    "codebuild_project": _codebuild_projects,
    "event_rule": _event_rules,
}

#: kind -> how it is read by id, where it may be somebody else's.
ADOPTABLE = {
    "vpc": ("describe_vpcs", "Vpcs", "VpcId", _vpc),
    "subnet": ("describe_subnets", "Subnets", "SubnetId", _subnet),
}

#: kind -> the component that makes it, for the message when it is missing.
MAKERS = {
    "vpc": "network",
    "subnet": "network",
    "route_table": "network",
    "load_balancer": "api",
    "target_group": "api",
    "rest_api": "api",
    "vpc_link": "api",
    "api_key": "api",
    "db_instance": "database",
}

#: What a network's range is assumed to be: RFC 5737 keeps it for documentation.
PREDICTED_CIDR = "192.0.2.0/24"


def predicted(kind, name, region, account):
    """Return what check mode assumes of a resource that an earlier component would have made.

    The ids have AWS's form, so that modules which check the form accept them, and say what they are.
    """
    prefix = {"security_group": "sg", "address": "eipalloc", "nat_gateway": "nat", "internet_gateway": "igw"}
    identifier = f"{prefix.get(kind, kind.replace('_', '-'))}-predicted"
    found = {"id": identifier, "tags": {}, "status": "predicted", "predicted": True}
    if kind in ("load_balancer", "target_group"):
        short = {"load_balancer": "loadbalancer/net/", "target_group": "targetgroup/"}[kind]
        found["arn"] = found["id"] = f"arn:aws:elasticloadbalancing:{region}:{account}:{short}{name}/predicted"
        found["dns_name"] = f"{name}.predicted"
    elif kind == "db_instance":
        found |= {"address": f"{name}.predicted", "port": 5432, "deletion_protection": False}
    elif kind == "kms_key":
        found["id"] = "00000000-0000-0000-0000-000000000000"
        found["arn"] = f"arn:aws:kms:{region}:{account}:key/{found['id']}"
    elif kind in ("secret", "flow_secret"):
        found["arn"] = found["id"] = f"arn:aws:secretsmanager:{region}:{account}:secret:{name}-predicted"
    elif kind == "subnet":
        found |= {"availability_zone": f"{region}a", "cidr_block": PREDICTED_CIDR, "vpc_id": "vpc-predicted"}
    elif kind == "vpc":
        found["cidr_block"] = PREDICTED_CIDR
    return found
