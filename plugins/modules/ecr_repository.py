#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# In place of community.aws.ecs_ecr (10.0), which can't tag a repository, so that neither discovery nor the sweep after
# a teardown finds it.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: ecr_repository
short_description: Manage an ECR repository with its tags and lifecycle policy
version_added: 0.1.0
description:
  - Creates, changes and removes a private repository of container images.
author:
  - The metaflow-ansible authors
options:
  name:
    description: Name of the repository, e.g. C(metaflow-prod/flows).
    type: str
    required: true
  state:
    description: Whether the repository should exist.
    choices: [present, absent]
    default: present
    type: str
  force:
    description: With O(state=absent), remove the images in it too. A repository that holds images is refused otherwise.
    type: bool
    default: false
  image_tag_mutability:
    description: Whether a tag that exists can be given to another image.
    choices: [MUTABLE, IMMUTABLE]
    default: IMMUTABLE
    type: str
  scan_on_push:
    description: Whether ECR looks for known vulnerabilities in each image that is pushed.
    type: bool
    default: true
  encryption_type:
    description: How ECR encrypts the images. It can't be changed later.
    choices: [AES256, KMS]
    default: AES256
    type: str
  kms_key:
    description: ARN of the KMS key for O(encryption_type=KMS). Left out, it is the account's key C(aws/ecr).
    type: str
  lifecycle_policy:
    description: Which images ECR forgets by itself, as ECR writes it. Left out, there is no policy.
    type: dict
extends_documentation_fragment:
  - mlops.metaflow.resource
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the repository of the flows' images
  mlops.metaflow.ecr_repository:
    name: metaflow-prod/flows
    lifecycle_policy:
      rules:
        - rulePriority: 1
          selection: {tagStatus: untagged, countType: imageCountMoreThan, countNumber: 5}
          action: {type: expire}
    tags:
      Team: data

- name: Remove it with its images
  mlops.metaflow.ecr_repository:
    name: metaflow-prod/flows
    state: absent
    force: true
"""

RETURN = r"""
repository:
  description: The repository, with its tags and its lifecycle policy.
  returned: success
  type: dict
  sample:
    repository_arn: arn:aws:ecr:eu-west-1:123456789012:repository/metaflow-prod/flows
    repository_name: metaflow-prod/flows
    repository_uri: 123456789012.dkr.ecr.eu-west-1.amazonaws.com/metaflow-prod/flows
    image_tag_mutability: IMMUTABLE
    image_scanning_configuration: {scan_on_push: true}
    tags: {Team: data}
"""

import json
from contextlib import suppress

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    from botocore.exceptions import ClientError

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.tagging import (
    ansible_dict_to_boto3_tag_list,
    boto3_tag_list_to_ansible_dict,
)
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import (
    TAG_OPTIONS,
    AwsResource,
    Failed,
    error_code,
    options,
)


class Repository(AwsResource):
    """A repository, keyed by its name. ``lifecyclePolicy`` is ours: ECR keeps it beside the repository, as text."""

    kind = "ECR repository"
    service = "ecr"
    result_key = "repository"
    unordered = ("tags", "lifecyclePolicy")
    verbatim = ("tags", "lifecyclePolicy")

    def declare(self):
        encryption = {"encryptionType": self.params["encryption_type"], "kmsKey": self.params["kms_key"]}
        declared = {
            "repositoryName": self.name,
            "imageTagMutability": self.params["image_tag_mutability"],
            "imageScanningConfiguration": {"scanOnPush": self.params["scan_on_push"]},
            "encryptionConfiguration": {key: value for key, value in encryption.items() if value is not None},
            "lifecyclePolicy": self.params["lifecycle_policy"] or {},
        }
        return declared | ({"tags": self.params["tags"]} if self.params["tags"] is not None else {})

    def read(self):
        try:
            live = self.client.describe_repositories(repositoryNames=[self.name])["repositories"][0]
        except ClientError as error:
            if error_code(error) != "RepositoryNotFoundException":
                raise
            return None
        live["tags"] = boto3_tag_list_to_ansible_dict(
            self.client.list_tags_for_resource(resourceArn=live["repositoryArn"])["tags"]
        )
        live["lifecyclePolicy"] = self.read_lifecycle_policy()
        live["createdAt"] = str(live.get("createdAt"))
        return live

    def read_lifecycle_policy(self):
        try:
            return json.loads(self.client.get_lifecycle_policy(repositoryName=self.name)["lifecyclePolicyText"])
        except ClientError as error:
            if error_code(error) != "LifecyclePolicyNotFoundException":
                raise
            return {}

    def refuse(self, live, desired, changes):
        if desired and "encryptionConfiguration" in changes:
            raise Failed("ECR can't change the encryption of a repository. Remove it, or give another name.")

    def create(self, desired):
        own = {key: value for key, value in desired.items() if key not in ("lifecyclePolicy", "tags")}
        self.client.create_repository(**own, tags=ansible_dict_to_boto3_tag_list(desired.get("tags", {})))
        if desired["lifecyclePolicy"]:
            self.put_lifecycle_policy(desired)

    def update(self, live, desired, changes):
        if "imageTagMutability" in changes:
            self.client.put_image_tag_mutability(
                repositoryName=self.name, imageTagMutability=desired["imageTagMutability"]
            )
        if "imageScanningConfiguration" in changes:
            self.client.put_image_scanning_configuration(
                repositoryName=self.name, imageScanningConfiguration=desired["imageScanningConfiguration"]
            )
        if "lifecyclePolicy" in changes:
            self.put_lifecycle_policy(desired)

    def put_lifecycle_policy(self, desired):
        if desired["lifecyclePolicy"]:
            self.client.put_lifecycle_policy(
                repositoryName=self.name, lifecyclePolicyText=json.dumps(desired["lifecyclePolicy"])
            )
        else:
            self.client.delete_lifecycle_policy(repositoryName=self.name)

    def delete(self, live):
        self.client.delete_repository(repositoryName=self.name, force=self.params["force"])

    def tag(self, live, tags):
        self.client.tag_resource(resourceArn=live["repositoryArn"], tags=ansible_dict_to_boto3_tag_list(tags))

    def untag(self, live, keys):
        self.client.untag_resource(resourceArn=live["repositoryArn"], tagKeys=keys)

    def predict(self, desired):
        arn = self.arn(f"repository/{self.name}")
        _, partition, _, region, account, _ = arn.split(":")
        domain = "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com"
        return {"repositoryArn": arn, "repositoryUri": f"{account}.dkr.ecr.{region}.{domain}/{self.name}"}


def main():
    module = AnsibleAWSModule(
        argument_spec=options(
            name={"required": True},
            force={"type": "bool", "default": False},
            image_tag_mutability={"choices": ["MUTABLE", "IMMUTABLE"], "default": "IMMUTABLE"},
            scan_on_push={"type": "bool", "default": True},
            encryption_type={"choices": ["AES256", "KMS"], "default": "AES256"},
            kms_key={},
            lifecycle_policy={"type": "dict"},
            **TAG_OPTIONS,
        ),
        supports_check_mode=True,
    )
    Repository(module).run()


if __name__ == "__main__":
    main()
