"""Target groups: real health checks of the addresses that are registered, and who is healthy.

The states and reasons are those of DescribeTargetHealth:
https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html
"""

import http.client
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from moto.elbv2.models import FakeHealthStatus, FakeTargetGroup

from emulator.gaps import wrap

from .clock import SHORTEST, scaled
from .network import LOOPBACK, Peer, addresses, admits
from .place import Place, backends

log = logging.getLogger(__name__)

Key = tuple[str, str, int]
"""Target group ARN, address, port."""


@dataclass
class Health:
    """What the checks of one target have found so far."""

    state: str = "initial"
    reason: str | None = "Elb.InitialHealthChecking"
    streak: int = 0
    """Consecutive checks that contradict the state."""
    due: float = 0
    running: bool = False
    since: float = field(default_factory=time.monotonic)
    """When the target was registered."""

    def record(self, failure: str | None, group: FakeTargetGroup) -> None:
        """Take the outcome of one check: None, or the reason of the failure."""
        outcome = "unhealthy" if failure else "healthy"
        if failure and self.state == "initial" and time.monotonic() - self.since < _patience(group):
            return
        self.streak = 0 if outcome == self.state else self.streak + 1
        if self.streak >= self._threshold(outcome, group):
            self.state, self.streak = outcome, 0
        self.reason = failure if self.state == "unhealthy" else self.reason if self.state == "initial" else None

    def _threshold(self, outcome: str, group: FakeTargetGroup) -> int:
        """A new target is healthy after one passed check, as load balancers have it."""
        if outcome == "healthy":
            return 1 if self.state == "initial" else int(group.healthy_threshold_count)
        return int(group.unhealthy_threshold_count)


class HealthChecker:
    """Checks every registered address of every target group that a load balancer uses."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._health: dict[Key, Health] = {}
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="health-check")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="health-checks", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End all checks."""
        self._stopped.set()
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def reset(self) -> None:
        """Forget what is known."""
        self._health.clear()

    def status(self, group: FakeTargetGroup, address: str, port: int) -> Health:
        """The state of a registered target."""
        if not group_in_use(group):
            return Health("unused", "Target.NotInUse")
        return self._health.get((group.arn, address, port), Health())

    def _loop(self) -> None:
        while not self._stopped.wait(SHORTEST / 2):
            registered = dict(self._registered())
            for key in self._health.keys() - registered.keys():
                self._health.pop(key, None)
            for key, group in registered.items():
                health = self._health.setdefault(key, Health())
                if not health.running and time.monotonic() >= health.due:
                    health.running = True
                    self._pool.submit(self._check, key, group, health)

    def _registered(self) -> Iterator[tuple[Key, FakeTargetGroup]]:
        for _, elb in backends("elbv2"):
            for group in list(elb.target_groups.values()):
                if group.target_type == "ip" and group.targets and group_in_use(group):
                    for target in list(group.targets.values()):
                        yield (group.arn, target["Id"], int(target["Port"])), group

    def _check(self, key: Key, group: FakeTargetGroup, health: Health) -> None:
        try:
            before = health.state
            health.record(check(group, key[1], key[2]), group)
            if health.state != before:
                self._on_change()
        except Exception:
            log.exception("the health check of %s failed", key)
        finally:
            health.due = time.monotonic() + scaled(int(group.health_check_interval_seconds))
            health.running = False


def _patience(group: FakeTargetGroup) -> float:
    """Real seconds that a new target has to begin to answer, as on AWS: a program starts no faster here."""
    return int(group.health_check_interval_seconds) * int(group.unhealthy_threshold_count)


def check(group: FakeTargetGroup, address: str, port: int) -> str | None:
    """One health check as the group's settings ask for it: None, or the reason of the failure."""
    if str(group.health_check_port or "traffic-port") != "traffic-port":
        port = int(group.health_check_port)
    local_port = reachable(group, address, port)
    if local_port is None:
        return "Target.Timeout"
    timeout = int(group.health_check_timeout_seconds)
    try:
        if group.health_check_protocol in ("HTTP", "HTTPS"):
            return _check_http(group, local_port, timeout)
        socket.create_connection((LOOPBACK, local_port), timeout).close()
    except TimeoutError:
        return "Target.Timeout"
    except (OSError, http.client.HTTPException):
        return "Target.FailedHealthChecks"
    return None


def _check_http(group: FakeTargetGroup, port: int, timeout: float) -> str | None:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=timeout)
    try:
        connection.request("GET", group.health_check_path or "/", headers={"User-Agent": "ELB-HealthChecker/2.0"})
        status = connection.getresponse().status
    finally:
        connection.close()
    matcher = (getattr(group, "matcher", None) or {}).get("HttpCode", "200-399")
    return None if _in_codes(status, matcher) else "Target.ResponseCodeMismatch"


def _in_codes(status: int, matcher: str) -> bool:
    """Whether a status is in a list like ``200,301-399``."""
    ranges = [part.split("-") for part in matcher.split(",")]
    return any(int(bounds[0]) <= status <= int(bounds[-1]) for bounds in ranges)


def reachable(group: FakeTargetGroup, address: str, port: int) -> int | None:
    """The local port behind a target, if the group's load balancer may connect to it."""
    target = addresses.peer(group.vpc_id, address)
    if target is None:
        return None
    place = Place(group.account_id, group.region_name)
    if not any(admits(place, load_balancer_peer(balancer), target, port) for balancer in balancers_of(group)):
        return None
    return addresses.local_port(group.vpc_id, address, port)


def load_balancer_peer(balancer: Any) -> Peer:
    """A load balancer as a peer: its security groups, and the networks of its subnets."""
    return Peer(tuple(balancer.security_groups or ()), tuple(subnet.cidr_block for subnet in balancer.subnets))


def balancers_of(group: FakeTargetGroup) -> list[Any]:
    """The load balancers with a listener that forwards to the group."""
    elb = Place(group.account_id, group.region_name).backend("elbv2")
    return [
        balancer
        for balancer in list(elb.load_balancers.values())
        if any(group.arn in target_group_arns(listener) for listener in list(balancer.listeners.values()))
    ]


def group_in_use(group: FakeTargetGroup) -> bool:
    """Whether a load balancer forwards to the group; if not, its targets are not checked."""
    return bool(balancers_of(group))


def target_group_arns(listener: Any) -> list[str]:
    """The target groups to which a listener's default actions forward."""
    arns = []
    for action in listener.default_actions:
        forward = action.data.get("ForwardConfig", {}).get("TargetGroups", [])
        arns += [entry["TargetGroupArn"] for entry in forward] or [action.data.get("TargetGroupArn")]
    return [arn for arn in arns if arn]


def install(checker: HealthChecker) -> None:
    """Let DescribeTargetHealth tell what the checks found."""

    @wrap(FakeTargetGroup, "health_for")
    def health_for(
        original: Callable[..., Any], self: FakeTargetGroup, target: dict[str, Any], ec2_backend: Any
    ) -> Any:
        registered = self.targets.get(target["Id"])
        if self.target_type != "ip" or registered is None:
            return original(self, target, ec2_backend)
        port = int(registered["Port"])
        health = checker.status(self, target["Id"], port)
        return FakeHealthStatus(target["Id"], str(port), self.health_check_port, health.state, health.reason, None)
