"""The gap of time: with `--state-seconds`, changes take as long as configured and go through AWS's own states."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from moto.apigateway.models import APIGatewayBackend, VpcLink
from moto.batch.exceptions import ClientException
from moto.batch.models import BatchBackend, ComputeEnvironment, JobQueue
from moto.ec2.models.nat_gateways import NatGateway, NatGatewayBackend
from moto.elbv2.models import ELBv2Backend, FakeLoadBalancer
from moto.rds.exceptions import RDSClientError
from moto.rds.models import DBInstance, RDSBackend
from moto.sagemaker.models import FakeSagemakerNotebookInstance, SageMakerModelBackend
from moto.sagemaker.responses import SageMakerResponse

from emulator import states
from emulator.gaps import add, gap, wrap


@gap("states", "database", "An instance is creating, backing-up, modifying or deleting before it is available or gone.")
def database() -> None:
    add(DBInstance, "status")(states.TimedState("status"))
    _takes_time(RDSBackend, "create_db_instance", "database", "creating", "backing-up")
    _takes_time(RDSBackend, "modify_db_instance", "database", "modifying", check=_check_available)
    _ends_later(
        RDSBackend,
        "delete_db_instance",
        "database",
        "deleting",
        find=lambda backend, name: backend.databases.get(name),
        check=_check_not_deleting,
        refuses=lambda instance: instance.deletion_protection,
    )
    endpoint = DBInstance.endpoint.fget
    # An instance has no address before it is created.
    DBInstance.endpoint = property(lambda self: None if states.current(self) == "creating" else endpoint(self))


def _check_available(backend: Any, name: str) -> None:
    state = states.current(backend.describe_db_instances(name)[0])
    if state:
        raise RDSClientError("InvalidDBInstanceState", f"Instance {name} is {state}, not available.")


def _check_not_deleting(backend: Any, name: str) -> None:
    if states.current(backend.describe_db_instances(name)[0]) == "deleting":
        raise RDSClientError("InvalidDBInstanceState", f"Instance {name} is already being deleted.")


@gap("states", "nat-gateway", "A NAT gateway is pending before it is available, and deleting before it is deleted.")
def nat_gateway() -> None:
    add(NatGateway, "state")(states.TimedState("state"))
    _takes_time(NatGatewayBackend, "create_nat_gateway", "nat-gateway", "pending")
    _ends_later(
        NatGatewayBackend,
        "delete_nat_gateway",
        "nat-gateway",
        "deleting",
        find=lambda backend, name: backend.nat_gateways.get(name),
    )


@gap("states", "load-balancer", "A load balancer is provisioning before it is active.")
def load_balancer() -> None:
    add(FakeLoadBalancer, "state")(states.TimedState("state"))
    _takes_time(ELBv2Backend, "create_load_balancer", "load-balancer", "provisioning")


@gap("states", "api-vpc-link", "A VPC link is PENDING before it is AVAILABLE, and DELETING before it is gone.")
def api_vpc_link() -> None:
    add(VpcLink, "status")(states.TimedState("status"))
    _takes_time(APIGatewayBackend, "create_vpc_link", "api-vpc-link", "PENDING")
    _ends_later(
        APIGatewayBackend,
        "delete_vpc_link",
        "api-vpc-link",
        "DELETING",
        find=lambda backend, name: backend.vpc_links.get(name),
    )


@gap("states", "batch", "Environments and queues are CREATING, UPDATING or DELETING before they are VALID or gone.")
def batch() -> None:
    add(JobQueue, "status")(states.TimedState("status"))

    @wrap(BatchBackend, "describe_compute_environments")
    def describe(original: Callable[..., Any], self: Any, environments: list[str] | None = None) -> list[Any]:
        found = original(self, environments)
        for one in found:
            state = states.current(self._compute_environments[one["computeEnvironmentArn"]])
            one["status"] = state or one["status"]
        return found

    # The runtime starts no job in an environment that is not VALID.
    add(ComputeEnvironment, "status")(property(lambda self: states.current(self) or "VALID"))

    @wrap(BatchBackend, "create_job_queue")
    def create_queue(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
        for entry in _arguments(original, self, args, kwargs)["compute_env_order"] or []:
            _check_valid(self.get_compute_environment(entry["computeEnvironment"]))
        return original(self, *args, **kwargs)

    for noun in ("compute_environment", "job_queue"):
        kind, find = f"batch-{noun.replace('_', '-')}", f"get_{noun}"
        check = _valid_checker(find)
        _takes_time(BatchBackend, f"create_{noun}", kind, "CREATING")
        _takes_time(BatchBackend, f"update_{noun}", kind, "UPDATING", check=check, find=find)
        _ends_later(BatchBackend, f"delete_{noun}", kind, "DELETING", find=_getter(find), check=check)


def _getter(method: str) -> Callable[[Any, str], Any]:
    return lambda backend, name: getattr(backend, method)(name)


def _valid_checker(method: str) -> Callable[[Any, str], None]:
    return lambda backend, name: _check_valid(getattr(backend, method)(name))


def _check_valid(resource: Any) -> None:
    state = resource and states.current(resource)
    if state:
        raise ClientException(f"Cannot use or change {resource.name}, the resource is being modified: {state}")


@gap("states", "notebook", "A notebook is Pending, Stopping, Updating or Deleting before it is what it shall be.")
def notebook() -> None:
    add(FakeSagemakerNotebookInstance, "status")(states.TimedState("status"))
    backend = SageMakerModelBackend
    _takes_time(backend, "create_notebook_instance", "notebook", "Pending")
    _takes_time(backend, "start_notebook_instance", "notebook", "Pending", find="get_notebook_instance")
    _takes_time(backend, "stop_notebook_instance", "notebook", "Stopping", find="get_notebook_instance")
    _ends_later(
        backend,
        "delete_notebook_instance",
        "notebook",
        "Deleting",
        find=lambda backend, name: backend.notebook_instances.get(name),
        refuses=lambda instance: not instance.is_deletable,
    )

    @wrap(SageMakerResponse, "update_notebook_instance")
    def update(original: Callable[..., Any], self: Any) -> Any:
        answer = original(self)
        instance = self.sagemaker_backend.get_notebook_instance(self._get_param("NotebookInstanceName"))
        states.begin(instance, "notebook", "Updating")
        return answer


def _takes_time(
    backend: type,
    operation: str,
    kind: str,
    *steps: str,
    check: Callable[[Any, str], None] | None = None,
    find: str | None = None,
) -> None:
    """Let what an operation returns (or what `find` returns for its name) be in the intermediate states after it.

    `check` is given the backend and the name, and raises where AWS refuses the operation.
    """

    @wrap(backend, operation)
    def change(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
        name = _name(original, self, args, kwargs)
        if check:
            check(self, name)
        result = original(self, *args, **kwargs)
        resource = getattr(self, find)(name) if find else result
        # What was created before and is only returned again stays as it is.
        if not operation.startswith("create") or states.is_new(resource):
            states.begin(resource, kind, *steps)
        return result


def _ends_later(
    backend: type,
    operation: str,
    kind: str,
    state: str,
    find: Callable[[Any, str], Any],
    check: Callable[[Any, str], None] | None = None,
    refuses: Callable[[Any], bool] = lambda resource: False,
) -> None:
    """Do a deletion when its time is over, and let the resource be in a state meanwhile.

    `refuses` says whether moto's deletion will raise, which must then happen at once.
    """

    @wrap(backend, operation)
    def delete(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
        name = _name(original, self, args, kwargs)
        resource = find(self, name)
        if resource is None or not states.takes_time(kind) or refuses(resource):
            return original(self, *args, **kwargs)
        if check:
            check(self, name)
        if states.current(resource) != state:
            states.end(resource, kind, state, lambda: original(self, *args, **kwargs))
        return resource


def _arguments(
    original: Callable[..., Any], self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    return inspect.signature(original).bind(self, *args, **kwargs).arguments


def _name(original: Callable[..., Any], self: Any, args: Any, kwargs: Any) -> Any:
    """Return the first argument of an operation, which names its resource."""
    return list(_arguments(original, self, args, kwargs).values())[1]
