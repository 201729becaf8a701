"""Gaps of IAM."""

from __future__ import annotations

from moto.iam import models

from emulator.gaps import gap

# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_aws-services-that-work-with-iam.html, each service's page
SERVICE_LINKED = {
    "batch": "Batch",
    "ecs": "ECS",
    "elasticloadbalancing": "ElasticLoadBalancing",
    "rds": "RDS",
    "spot": "EC2Spot",
    "spotfleet": "EC2SpotFleet",
}


@gap("iam", "service-linked-role-names", "A service-linked role is named as the service writes itself.")
def service_linked_role_names() -> None:
    models.SERVICE_NAME_CONVERSION.update(SERVICE_LINKED)
