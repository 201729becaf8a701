#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# amazon.aws.aws_caller_info tells the account, but hangs on a region that doesn't exist (minutes of retries), and
# says of a wrong account nothing at all. This module checks all three in one task and answers in one sentence.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: stack_account
short_description: Check that region, credentials and account are the ones that are meant
version_added: 0.1.0
description:
  - Fails with one clear sentence when the region doesn't exist, the credentials don't work or belong to another
    account, or an availability zone isn't one of the region's.
  - Makes two reading calls, with short time limits.
author:
  - The metaflow-ansible authors
options:
  account_id:
    description: The AWS account that the run is meant for.
    type: str
    required: true
  availability_zones:
    description: Zones that must be available in the region.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Only reads.
    support: full
  diff_mode:
    description: Changes nothing, so there is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Check that this is the right account
  mlops.metaflow.stack_account:
    account_id: "123456789012"
    region: eu-west-1
    availability_zones: [eu-west-1a, eu-west-1b]
"""

RETURN = r"""
account:
  description: Who calls, and from where.
  returned: success
  type: dict
  sample:
    account_id: "123456789012"
    arn: arn:aws:sts::123456789012:assumed-role/deployer/ann
    region: eu-west-1
    availability_zones: [eu-west-1a, eu-west-1b, eu-west-1c]
"""

from contextlib import suppress

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    import boto3
    import botocore.config
    import botocore.exceptions

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule

#: Two quick tries: an account check that hangs is worse than one that fails.
LIMITS = {"connect_timeout": 5, "read_timeout": 10, "retries": {"mode": "standard", "max_attempts": 3}}


def check_region(module):
    """Fail when botocore has no partition with this region. Known offline, so a typo costs no call."""
    session = boto3.session.Session()
    known = [
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("ec2", partition)
    ]
    if module.region not in known:
        module.fail_json(
            msg=f"stack_region '{module.region}' is no AWS region that botocore knows; "
            f"allowed are {', '.join(sorted(known))}."
        )


def main():
    module = AnsibleAWSModule(
        argument_spec={
            "account_id": {"required": True},
            "availability_zones": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    check_region(module)
    config = botocore.config.Config(**LIMITS)
    wanted = module.params["account_id"]
    try:
        caller = module.client("sts", aws_config=config).get_caller_identity()
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        module.fail_json_aws(
            error, msg=f"AWS does not accept the credentials in {module.region} (account {wanted} is expected)"
        )
    if caller["Account"] != wanted:
        module.fail_json(
            msg=f"The credentials belong to account {caller['Account']} ({caller['Arn']}), "
            f"but stack_account_id is '{wanted}'. Use the credentials of account {wanted}, or mend the variable."
        )

    try:
        zones = module.client("ec2", aws_config=config).describe_availability_zones(
            Filters=[{"Name": "zone-type", "Values": ["availability-zone"]}, {"Name": "state", "Values": ["available"]}]
        )["AvailabilityZones"]
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        module.fail_json_aws(error, msg=f"Failed to list the availability zones of {module.region}")
    names = sorted(zone["ZoneName"] for zone in zones)
    for zone in module.params["availability_zones"]:
        if zone not in names:
            module.fail_json(
                msg=f"network_availability_zones names '{zone}', which {module.region} does not offer to this account; "
                f"allowed are {', '.join(names)}."
            )
    module.exit_json(
        changed=False,
        account={
            "account_id": caller["Account"],
            "arn": caller["Arn"],
            "region": module.region,
            "availability_zones": names,
        },
    )


if __name__ == "__main__":
    main()
