"""Load balancers: which local port answers for a listener."""

import itertools
from typing import Any

from .network import LOOPBACK
from .place import backends
from .targets import HealthChecker, reachable, target_group_arns


class Unavailable(Exception):
    """Nobody answers behind the load balancer."""


class LoadBalancing:
    """Finds targets for connections, in turn."""

    def __init__(self, checker: HealthChecker) -> None:
        self._checker = checker
        self._turn = itertools.count()

    def target(self, balancer: Any, port: int) -> tuple[str, int]:
        """Address and port of the target for a connection to the balancer's port, or Unavailable.

        Where no target is healthy, all are tried, as network load balancers do ("fail open").
        """
        elb, listener = self._listener(balancer, port)
        groups = [elb.target_groups[arn] for arn in target_group_arns(listener) if arn in elb.target_groups]
        registered = [
            (self._checker.status(group, target["Id"], int(target["Port"])).state, local_port)
            for group in groups
            for target in list(group.targets.values())
            if (local_port := reachable(group, target["Id"], int(target["Port"]))) is not None
        ]
        candidates = [port for state, port in registered if state == "healthy"] or [port for _, port in registered]
        if not candidates:
            raise Unavailable(f"no target behind {balancer.name}:{port}")
        return LOOPBACK, candidates[next(self._turn) % len(candidates)]

    def _listener(self, balancer: Any, port: int) -> tuple[Any, Any]:
        for _, elb in backends("elbv2"):
            if elb.load_balancers.get(balancer.arn) is balancer:
                for listener in list(balancer.listeners.values()):
                    if int(listener.port) == port:
                        return elb, listener
        raise Unavailable(f"{balancer.name} has no listener on port {port}")


def by_name(name: str) -> Any | None:
    """The load balancer of that name."""
    return _find("name", name)


def by_dns_name(name: str) -> Any | None:
    """The load balancer of that DNS name."""
    return _find("dns_name", name)


def by_arn(arn: str) -> Any | None:
    """The load balancer of that ARN."""
    return _find("arn", arn)


def _find(attribute: str, value: str) -> Any | None:
    for _, elb in backends("elbv2"):
        for balancer in list(elb.load_balancers.values()):
            if getattr(balancer, attribute) == value:
                return balancer
    return None
