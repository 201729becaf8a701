"""Gaps of Elastic Load Balancing (v2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.elbv2 import models
from moto.elbv2.exceptions import DuplicateLoadBalancerName, ELBClientError
from moto.elbv2.responses import ELBV2Response

from emulator.gaps import before, gap, wrap
from emulator.gaps.ec2_dependencies import hold, release


@gap("elbv2", "network-load-balancer-names", "The ARN and host name of a network load balancer say what it is.")
def network_load_balancer_names() -> None:
    @wrap(models.ELBv2Backend, "create_load_balancer")
    def create(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
        balancer = original(self, *args, **kwargs)
        if balancer.type == "network":
            tags = self.tagging_service.get_tag_dict_for_resource(balancer.arn)
            del self.load_balancers[balancer.arn]
            self.tagging_service.delete_all_tags_for_resource(balancer.arn)
            balancer.arn = balancer.arn.replace(":loadbalancer/app/", ":loadbalancer/net/")
            balancer.dns_name = f"{balancer.name}-{balancer.arn.split('/')[-1]}.elb.{self.region_name}.amazonaws.com"
            self.load_balancers[balancer.arn] = balancer
            self.tagging_service.tag_resource(balancer.arn, [{"Key": k, "Value": v} for k, v in tags.items()])
        return balancer


@gap("elbv2", "deletion-protection", "A load balancer with deletion protection cannot be deleted.")
def deletion_protection() -> None:
    @before(ELBV2Response, "delete_load_balancer")
    def check(self: Any) -> None:
        arn = self._get_param("LoadBalancerArn")
        balancer = self.elbv2_backend.load_balancers.get(arn)
        if balancer and balancer.attrs.get("deletion_protection.enabled") == "true":
            raise ELBClientError(
                "OperationNotPermitted",
                f"Load balancer '{arn}' cannot be deleted because deletion protection is enabled",
            )


@gap("elbv2", "network-interfaces", "A load balancer holds an interface in each of its subnets, with its groups.")
def network_interfaces() -> None:
    @wrap(models.ELBv2Backend, "create_load_balancer")
    def create(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
        balancer = original(self, *args, **kwargs)
        _hold_subnets(self, balancer)
        return balancer

    @wrap(models.ELBv2Backend, "set_subnets")
    def set_subnets(original: Callable[..., Any], self: Any, arn: str, *args: Any, **kwargs: Any) -> Any:
        result = original(self, arn, *args, **kwargs)
        _hold_subnets(self, self.load_balancers[arn])
        return result

    @wrap(models.ELBv2Backend, "set_security_groups")
    def set_groups(original: Callable[..., Any], self: Any, arn: str, sec_groups: list[str]) -> None:
        original(self, arn, sec_groups)
        for interface in self.load_balancers[arn].held.values():
            interface._group_set = [self.ec2_backend.get_security_group_from_id(g) for g in sec_groups]

    @wrap(models.ELBv2Backend, "delete_load_balancer")
    def delete(original: Callable[..., Any], self: Any, arn: str) -> None:
        balancer = self.load_balancers.get(arn)
        original(self, arn)
        if balancer:
            release(list(balancer.held.values()))


def _hold_subnets(backend: Any, balancer: Any) -> None:
    """Make the interfaces that the load balancer lacks and remove those of subnets that it left."""
    held = balancer.held = getattr(balancer, "held", {})
    kind = {"network": "network_load_balancer"}.get(balancer.type, "interface")
    wanted = {subnet.id for subnet in balancer.subnets}
    for subnet_id in wanted - held.keys():
        description = f"ELB {balancer.arn.partition(':loadbalancer/')[2]}"
        held[subnet_id] = hold(backend.ec2_backend, subnet_id, balancer.security_groups or [], description, kind)
    release([held.pop(subnet_id) for subnet_id in held.keys() - wanted])


@gap("elbv2", "load-balancer-created-twice", "Creating a load balancer again returns it, or refuses other settings.")
def load_balancer_created_twice() -> None:
    @wrap(models.ELBv2Backend, "create_load_balancer")
    def create(
        original: Callable[..., Any],
        self: Any,
        name: str,
        security_groups: list[str],
        subnet_ids: list[str],
        subnet_mappings: list[dict[str, str]] | None = None,
        scheme: str = "internet-facing",
        loadbalancer_type: str | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        subnets = {*subnet_ids, *(m["SubnetId"] for m in subnet_mappings or [])}
        for existing in self.load_balancers.values():
            if existing.name == name:
                same_place = {s.id for s in existing.subnets} == subnets
                same_kind = (existing.scheme, existing.type) == (
                    scheme,
                    loadbalancer_type or "application",
                )
                if same_place and same_kind and set(existing.security_groups) == set(security_groups):
                    return existing
                raise DuplicateLoadBalancerName()
        return original(
            self, name, security_groups, subnet_ids, subnet_mappings, scheme, loadbalancer_type, *args, **kwargs
        )


PRIVATE_LINK = "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic"


@gap("elbv2", "modify-listener-tls", "A listener can be changed from TCP to TLS and back, with its certificate.")
def modify_listener_tls() -> None:
    @wrap(models.ELBv2Backend, "modify_listener")
    def modify(
        original: Callable[..., Any],
        self: Any,
        arn: str,
        port: Any = None,
        protocol: str | None = None,
        ssl_policy: str | None = None,
        certificates: list[dict[str, Any]] | None = None,
        actions: list[dict[str, Any]] | None = None,
    ) -> Any:
        known = None if protocol in ("TLS", "UDP", "TCP_UDP") else protocol
        listener = original(self, arn, port, known, ssl_policy, certificates, actions)
        if protocol:
            listener.protocol = protocol
            listener.certificates = [one["CertificateArn"] for one in certificates or []]
        return listener


@gap("elbv2", "private-link-rules", "SetSecurityGroups keeps whether the rules hold for PrivateLink traffic.")
def private_link_rules() -> None:
    @wrap(ELBV2Response, "set_security_groups")
    def set_groups(original: Callable[..., Any], self: Any) -> Any:
        answer = original(self)
        balancer = self.elbv2_backend.load_balancers[self._get_param("LoadBalancerArn")]
        balancer.enforce_security_group_inbound_rules_on_private_link_traffic = self._get_param(PRIVATE_LINK) or "on"
        return answer
