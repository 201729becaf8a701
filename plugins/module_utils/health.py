# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a stack's components are: the live state of each of their parts, read and judged.

A part is ``ok``, ``busy`` (AWS is changing it), ``bad``, ``absent``, or ``unknown`` (it can't be read).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ansible_collections.mlops.metaflow.plugins.module_utils import discovery
from ansible_collections.mlops.metaflow.plugins.module_utils.discovery import absent_when
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import error_code

#: The worst first.
ORDER = ("bad", "absent", "busy", "unknown", "ok")


@dataclass(frozen=True)
class Part:
    """One resource: what it is called, how it is, and what AWS says of it."""

    name: str
    status: str
    detail: str = ""


def worst(statuses):
    """Return the status of a whole: absent where nothing is there, bad where something is missing of it."""
    found = set(statuses)
    if not found:
        return "ok"
    if found - {"unknown"} == {"absent"}:
        return "absent"
    found = {"bad" if status == "absent" else status for status in found}
    return min(found, key=ORDER.index)


def state(word, good, busy=()):
    """Return the status that a word of AWS means."""
    return "ok" if word in good else "busy" if word in busy else "bad"


class Health:
    """Reads the components of one stack.

    :param scope: the :class:`discovery.Scope` of the stack.
    :param names: what its resources are called, by kind.
    """

    def __init__(self, scope, names):
        self.scope = scope
        self.names = names
        self.client = scope.client

    def component(self, name):
        """Return ``{"name", "status", "parts"}`` of a component; what can't be read is ``unknown``."""
        parts = self.attempt(getattr(self, f"_{name}"))
        return {"name": name, "status": worst(part.status for part in parts), "parts": [asdict(part) for part in parts]}

    def attempt(self, read):
        """Return the parts that a reader finds; where AWS refuses, one part that says so."""
        from botocore.exceptions import ClientError

        try:
            return list(read())
        except ClientError as error:
            return [Part(error.operation_name, "unknown", f"AWS answers {error_code(error)}")]

    def _found(self, kind, names):
        """Yield (name, resource or None) of the names of a kind."""
        found = discovery.READERS[kind](self.scope, names)
        for name in names:
            yield name, found.get(name)

    # foundation

    def _network(self):
        adopted = self.names["adopted"]
        for kind, label in (("vpc", "VPC"), ("subnet", "subnet")):
            ids = adopted.get(kind, {})
            for name, found in self._found(kind, [n for n in self.names[kind] if n not in ids]):
                yield Part(f"{label} {name}", "ok" if found else "absent", (found or {}).get("cidr_block", ""))
            for name, identifier in ids.items():
                yield Part(f"{label} {name}", "ok", f"{identifier}, not the stack's own")
        gateways = discovery.READERS["nat_gateway"](self.scope, [])
        # The emulator passes over the filter by tags.
        ours = {name: found for name, found in gateways.items() if self.scope.owns(found["tags"])}
        if not ours and not adopted:
            yield Part("NAT gateway", "absent", "private subnets have no way out without one")
        for name, found in ours.items():
            yield Part(f"NAT gateway {name}", state(found["status"], ("available",), ("pending",)), found["status"])

    def _datastore(self):
        s3, bucket = self.client("s3"), self.names["bucket"]
        with absent_when("404", "NoSuchBucket"):
            s3.head_bucket(Bucket=bucket)
            versioning = s3.get_bucket_versioning(Bucket=bucket).get("Status", "never enabled")
            yield Part(f"bucket {bucket}", "ok", f"versioning {versioning.lower()}")
            return
        yield Part(f"bucket {bucket}", "absent")

    def _secrets(self):
        for name, found in self._found("secret", [self.names["secret"]]):
            yield Part(f"secret {name}", "ok" if found else "absent")
        count = len(discovery.READERS["flow_secret"](self.scope, [self.names["flow_secrets"]]))
        if count:
            yield Part("secrets of flows", "ok", f"{count} of them")

    def _identity(self):
        iam = self.client("iam")
        for name in self.names["roles"]:
            status = "absent"
            with absent_when("NoSuchEntity"):
                iam.get_role(RoleName=name)
                status = "ok"
            yield Part(f"role {name}", status)

    def _registry(self):
        ecr, name = self.client("ecr"), self.names["repository"]
        with absent_when("RepositoryNotFoundException"):
            pages = ecr.get_paginator("describe_images").paginate(repositoryName=name)
            images = [image for page in pages for image in page["imageDetails"]]
            latest = max((image["imagePushedAt"] for image in images), default=None)
            pushed = f", the latest of {latest:%Y-%m-%d}" if latest else ""
            yield Part(f"repository {name}", "ok", f"{len(images)} images{pushed}")
            return
        yield Part(f"repository {name}", "absent")

    # platform

    def _database(self):
        busy = ("creating", "modifying", "backing-up", "starting", "rebooting", "upgrading", "maintenance",
                "configuring-enhanced-monitoring", "configuring-log-exports", "storage-optimization")  # fmt: skip
        for name, found in self._found("db_instance", [self.names["database"]]):
            word = found["status"] if found else ""
            yield Part(f"database {name}", state(word, ("available",), busy) if found else "absent", word)

    def _api(self):
        for name, found in self._found("load_balancer", [self.names["load_balancer"]]):
            word = found["status"] if found else ""
            yield Part(
                f"load balancer {name}", state(word, ("active",), ("provisioning",)) if found else "absent", word
            )
        if self.names["rest_api"]:
            for name, found in self._found("rest_api", [self.names["rest_api"]]):
                yield Part(f"REST API {name}", "ok" if found else "absent", (found or {}).get("id", ""))
            for name, found in self._found("vpc_link", [self.names["vpc_link"]]):
                word = found["status"] if found else ""
                yield Part(f"VPC link {name}", state(word, ("AVAILABLE",), ("PENDING",)) if found else "absent", word)

    def _batch(self):
        batch = self.client("batch")
        listed = (
            ("compute environment", "describe_compute_environments", "computeEnvironments", "computeEnvironmentName"),
            ("job queue", "describe_job_queues", "jobQueues", "jobQueueName"),
        )
        for label, operation, key, name in listed:
            pages = batch.get_paginator(operation).paginate()
            ours = [one for page in pages for one in page[key] if self.scope.owns(one.get("tags", {}))]
            for one in ours:
                yield Part(f"{label} {one[name]}", _batch_status(one), _batch_detail(one))
            if not ours:
                yield Part(f"{label}s", "absent")

    def _step_functions(self):
        name = self.names["table"]
        status, detail = "absent", ""
        with absent_when("ResourceNotFoundException"):
            detail = self.client("dynamodb").describe_table(TableName=name)["Table"]["TableStatus"]
            status = state(detail, ("ACTIVE",), ("CREATING", "UPDATING"))
        yield Part(f"table {name}", status, detail)

    def _hosts(self):
        prefix = self.names["host_prefix"]
        found = discovery.READERS["instance"](self.scope, [])
        machines = {name: one for name, one in found.items() if name.startswith(prefix)}
        wanted = [f"{prefix}{name}" for name in self.names["hosts"]]
        for name in dict.fromkeys([*wanted, *machines]):
            word = machines[name]["status"] if name in machines else ""
            yield Part(f"machine {name}", state(word, ("running",), ("pending",)) if word else "absent", word)

    def _flow_image(self):
        # Without a requirements file or a Dockerfile there need not be one.
        for name, found in self._found("flow_image", [self.names["flow_image"]]):
            if found or self.names["flow_image_wanted"]:
                yield Part(f"image {name}", "ok" if found else "absent", (found or {}).get("tag", ""))

    # services and clients

    def _metadata_service(self):
        ecs, name = self.client("ecs"), self.names["service"]
        services = []
        with absent_when("ClusterNotFoundException"):
            services = ecs.describe_services(cluster=self.names["cluster"], services=[name])["services"]
        active = [service for service in services if service["status"] == "ACTIVE"]
        if not active:
            yield Part(f"service {name}", "absent")
            return
        service = active[0]
        detail = f"{service['runningCount']} of {service['desiredCount']} tasks run"
        deployments = {deployment.get("rolloutState", "COMPLETED") for deployment in service["deployments"]}
        rolling = "busy" if "IN_PROGRESS" in deployments else "ok"
        yield Part(f"service {name}", "bad" if service["runningCount"] < service["desiredCount"] else rolling, detail)
        yield from self._targets(self.names["target_group"])

    def _targets(self, name):
        """Yield how many targets of the service's target group answer its health checks."""
        elb = self.client("elbv2")
        for _, group in self._found("target_group", [name]):
            if group is None:
                yield Part(f"target group {name}", "absent")
                return
            targets = elb.describe_target_health(TargetGroupArn=group["arn"])["TargetHealthDescriptions"]
            states = [target["TargetHealth"]["State"] for target in targets]
            healthy = states.count("healthy")
            status = "ok" if healthy else "busy" if "initial" in states else "bad"
            yield Part(f"target group {name}", status, f"{healthy} of {len(states)} targets healthy")


def _batch_status(one):
    if one["state"] == "DISABLED":
        return "bad"
    return state(one["status"], ("VALID",), ("CREATING", "UPDATING", "DELETING"))


def _batch_detail(one):
    reason = one.get("statusReason", "") if one["status"] == "INVALID" else ""
    return ", ".join(filter(None, (one["state"], one["status"], reason)))
