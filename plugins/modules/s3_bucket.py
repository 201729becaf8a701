#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# In place of amazon.aws.s3_bucket (10.1), which has neither check mode (the task is skipped) nor diff, tags a bucket
# several calls after it has made it, takes any bucket of that name for its own, and leaves lifecycle rules and access
# logging to two more modules (community.aws.s3_lifecycle, s3_logging), each of which reads everything again.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: s3_bucket
short_description: Manage an S3 bucket, declared whole
version_added: 0.1.0
description:
  - Creates, changes and removes a private bucket. What is not declared is switched off, so that whatever was changed
    by hand comes back at the next run.
  - Access control lists are always off (object ownership C(BucketOwnerEnforced)).
  - A bucket is created with its tags in one call. A bucket that exists is taken only when its tags
    C(mlops.metaflow/stack) and C(mlops.metaflow/environment) are those in O(tags), or with O(adopt=true).
author:
  - The metaflow-ansible authors
options:
  name:
    description: Name of the bucket, unique among all buckets of AWS.
    type: str
    required: true
  state:
    description: Whether the bucket should exist. One that holds objects is removed only with O(force=true).
    choices: [present, absent]
    default: present
    type: str
  force:
    description:
      - With O(state=absent), remove all objects first, with all their versions, delete markers and unfinished uploads.
      - Goes in batches of 1000; when it is interrupted, the next run goes on where it stopped.
    type: bool
    default: false
  adopt:
    description: Take over, or remove, a bucket of this account that another stack, or nobody, has tagged as its own.
    type: bool
    default: false
  encryption:
    description: How S3 encrypts new objects by default.
    choices: [AES256, aws:kms]
    default: AES256
    type: str
  kms_key:
    description: ARN of the KMS key for O(encryption=aws:kms). Left out, it is the account's key C(aws/s3).
    type: str
  bucket_key:
    description: Whether KMS is asked once per bucket and time instead of once per object, which costs far less.
    type: bool
    default: true
  versioning:
    description: Whether overwritten and deleted objects are kept as noncurrent versions.
    type: bool
    default: true
  public_access_block:
    description: Which kinds of public access are blocked.
    type: dict
    default: {}
    suboptions:
      block_public_acls:
        description: Refuse public access control lists.
        type: bool
        default: true
      ignore_public_acls:
        description: Ignore public access control lists that exist.
        type: bool
        default: true
      block_public_policy:
        description: Refuse bucket policies that make the bucket public.
        type: bool
        default: true
      restrict_public_buckets:
        description: Admit only this account and AWS services to a bucket with a public policy.
        type: bool
        default: true
  policy:
    description: The bucket's policy. Its statements stand before that of O(require_tls).
    type: json
  require_tls:
    description: Whether the policy denies every request that doesn't come over TLS.
    type: bool
    default: true
  noncurrent_version_days:
    description: After how many days noncurrent versions, and delete markers without versions, go. Left out, never.
    type: int
  abort_incomplete_upload_days:
    description: After how many days unfinished multipart uploads, which are paid for too, go. V(0) is never.
    type: int
    default: 7
  lifecycle_rules:
    description:
      - More lifecycle rules, as S3 writes them (C(ID), C(Filter), C(Expiration), C(Transitions) …).
      - C(Status) may be left out (C(Enabled)), and so may C(Filter) (all objects) and C(ID) (C(rule-1), C(rule-2) …).
    type: list
    elements: dict
    default: []
  access_logging:
    description: Where S3 writes the bucket's access log. Left out, it writes none.
    type: dict
    suboptions:
      bucket:
        description: Name of the bucket that takes the log; its policy must admit C(logging.s3.amazonaws.com).
        type: str
        required: true
      prefix:
        description: What the log objects' keys begin with.
        type: str
        default: ""
extends_documentation_fragment:
  - mlops.metaflow.resource
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags
  - amazon.aws.boto3
"""

EXAMPLES = r"""
- name: Ensure the bucket of the datastore
  mlops.metaflow.s3_bucket:
    name: metaflow-prod-123456789012-eu-west-1
    encryption: aws:kms
    kms_key: arn:aws:kms:eu-west-1:123456789012:key/0b7a6c5d-1111-4222-8333-444455556666
    noncurrent_version_days: 30
    lifecycle_rules:
      - ID: expire-scratch
        Filter: {Prefix: scratch/}
        Expiration: {Days: 14}
    tags:
      mlops.metaflow/stack: metaflow
      mlops.metaflow/environment: prod

- name: Remove the bucket with everything in it
  mlops.metaflow.s3_bucket:
    name: metaflow-test-123456789012-eu-west-1
    state: absent
    force: true
    tags:
      mlops.metaflow/stack: metaflow
      mlops.metaflow/environment: test
"""

RETURN = r"""
bucket:
  description:
    - The bucket, or an empty map when it is absent.
    - C(policy), C(lifecycle_rules) and C(access_logging) are there only where something is set.
  returned: success
  type: dict
  sample:
    name: metaflow-prod-123456789012-eu-west-1
    arn: arn:aws:s3:::metaflow-prod-123456789012-eu-west-1
    region: eu-west-1
    public_access_block:
      block_public_acls: true
      ignore_public_acls: true
      block_public_policy: true
      restrict_public_buckets: true
    object_ownership: BucketOwnerEnforced
    encryption:
      sse_algorithm: aws:kms
      kms_master_key_id: arn:aws:kms:eu-west-1:123456789012:key/0b7a6c5d-1111-4222-8333-444455556666
      bucket_key_enabled: true
    versioning: Enabled
    lifecycle_rules:
      - id: abort-incomplete-uploads
        status: Enabled
        filter: {prefix: ""}
        abort_incomplete_multipart_upload: {days_after_initiation: 7}
    policy: {Version: "2012-10-17", Statement: [{Sid: RequireTLS, Effect: Deny, Principal: "*", Action: "s3:*"}]}
    access_logging: {target_bucket: logs, target_prefix: datastore/}
    tags: {mlops.metaflow/stack: metaflow, mlops.metaflow/environment: prod}
"""

from contextlib import suppress
from functools import cached_property, partial

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    from botocore.exceptions import ClientError

from ansible.module_utils.common.dict_transformations import snake_dict_to_camel_dict
from ansible_collections.amazon.aws.plugins.module_utils.iam import get_aws_account_info
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.amazon.aws.plugins.module_utils.policy import compare_policies
from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry
from ansible_collections.amazon.aws.plugins.module_utils.tagging import ansible_dict_to_boto3_tag_list
from ansible_collections.mlops.metaflow.plugins.module_utils import diff
from ansible_collections.mlops.metaflow.plugins.module_utils.discovery import TAG_ENVIRONMENT, TAG_STACK
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import (
    TAG_OPTIONS,
    AwsResource,
    Failed,
    concurrently,
    error_code,
    options,
)
from ansible_collections.mlops.metaflow.plugins.module_utils.s3 import PARTS, bucket_policy, lifecycle_rules, writing

BATCH = 1000  # objects in one DeleteObjects call, at most


def is_ours(live_tags, declared_tags):
    """Tell whether a bucket's tags name the same stack and environment as the declared ones."""
    declared_tags = declared_tags or {}
    return all(live_tags.get(key) == declared_tags.get(key) for key in (TAG_STACK, TAG_ENVIRONMENT))


class Bucket(AwsResource):
    kind = "S3 bucket"
    service = "s3"
    result_key = "bucket"
    unordered = ("tags", "LifecycleRules", "Policy")
    verbatim = ("tags", "Policy")

    @cached_property
    def account(self):
        """Account id and partition of the caller."""
        return get_aws_account_info(self.module)

    @property
    def arn(self):
        return f"arn:{self.account[1]}:s3:::{self.name}"

    def declare(self):
        params = self.params
        is_kms = params["encryption"] == "aws:kms"
        logging = params["access_logging"]
        return {
            "PublicAccessBlock": snake_dict_to_camel_dict(params["public_access_block"], capitalize_first=True),
            "ObjectOwnership": "BucketOwnerEnforced",
            "Encryption": {
                "SSEAlgorithm": params["encryption"],
                "KMSMasterKeyID": params["kms_key"] if is_kms else None,
                "BucketKeyEnabled": is_kms and params["bucket_key"],
            },
            "Versioning": "Enabled" if params["versioning"] else "Suspended",
            "LifecycleRules": lifecycle_rules(params) or None,
            "Policy": bucket_policy(params, self.arn),
            "AccessLogging": logging and {"TargetBucket": logging["bucket"], "TargetPrefix": logging["prefix"]},
            "tags": params["tags"],
        }

    def read(self):
        there, here = self._region(), self.client.meta.region_name
        if there is None:
            return None
        if there != here:
            raise Failed(f"it is in {there}, not in {here}, and can't move. Work in {there}, or choose another name.")
        try:
            parts = concurrently({part: partial(self._read_part, part) for part in PARTS})
        except ClientError as error:
            if error_code(error) != "NoSuchBucket":  # just created or deleted, and S3 not of one mind yet
                raise
            return None
        return {"Name": self.name, "Arn": self.arn, "Region": there, **parts, "tags": parts["tags"] or {}}

    def _region(self):
        """Return the region of the bucket, or None where there is none."""
        try:
            return self.client.head_bucket(Bucket=self.name, ExpectedBucketOwner=self.account[0])["BucketRegion"]
        except ClientError as error:
            if error_code(error) == "404":
                return None
            if error_code(error) == "403":
                raise Failed(
                    "it belongs to another AWS account (bucket names are unique in the world: choose another one), "
                    "or this identity may not s3:ListBucket on it."
                ) from error
            raise

    def _read_part(self, part):
        operation, not_set, read = PARTS[part]
        try:
            return read(getattr(self.client, f"get_{operation}")(Bucket=self.name))
        except ClientError as error:
            if error_code(error) != not_set:
                raise
            return None

    # Just after its creation, or while another change is under way, S3 may answer so for a moment.
    @AWSRetry.jittered_backoff(catch_extra_error_codes=["NoSuchBucket", "OperationAborted"])
    def _write_part(self, part, value):
        operation, arguments = writing(part, value)
        getattr(self.client, operation)(Bucket=self.name, **arguments)

    def refine(self, desired, live):
        # S3 shows a policy in its own spelling (order, "x" for ["x"]): what means the same is no difference.
        policies = desired["Policy"], (live or {}).get("Policy")
        return {**desired, "Policy": policies[1]} if all(policies) and not compare_policies(*policies) else desired

    def refuse(self, live, desired, changes):
        if not self.params["adopt"] and not is_ours(live["tags"], self.params["tags"]):
            theirs, ours = (
                "/".join(tags.get(key, "-") for key in (TAG_STACK, TAG_ENVIRONMENT))
                for tags in (live["tags"], self.params["tags"] or {})
            )
            raise Failed(
                f"it is tagged for the stack {theirs}, and the declared tags are for {ours}. Declare the right tags; "
                "or, to take it over, adopt=true."
            )
        if desired is None and not self.params["force"] and self._first_objects(limit=1):
            raise Failed("it holds objects. To remove them all, with all their versions: force=true.")

    def create(self, desired):
        configuration = {}
        if (region := self.client.meta.region_name) != "us-east-1":  # which S3 wants left out
            configuration["LocationConstraint"] = region
        if desired["tags"]:
            configuration["Tags"] = ansible_dict_to_boto3_tag_list(desired["tags"])
        try:
            self.client.create_bucket(
                Bucket=self.name,
                ObjectOwnership=desired["ObjectOwnership"],
                **({"CreateBucketConfiguration": configuration} if configuration else {}),
            )
        except ClientError as error:
            if error_code(error) == "BucketAlreadyExists":
                raise Failed("another AWS account has a bucket of this name; choose another.") from error
            if error_code(error) != "BucketAlreadyOwnedByYou":  # the SDK repeated a call whose answer was lost
                raise
        # The tags once more: S3 also says yes where there is a bucket of ours already, and then ignores the new ones.
        self._write_parts({part: value for part, value in desired.items() if value})

    def update(self, live, desired, changes):
        self._write_parts({part: desired[part] for part in changes})

    def _write_parts(self, values):
        for part in PARTS:
            if part in values:
                self._write_part(part, values[part])

    def settled(self, live):
        desired = self.refine(self.declare(), live)
        return not diff.changes({part: desired[part] for part in PARTS if part != "tags"}, live, self.unordered)

    def tag(self, live, tags):
        live["tags"] = {**live["tags"], **tags}  # S3 only writes all tags at once
        self._write_part("tags", live["tags"])

    def untag(self, live, keys):
        live["tags"] = {key: value for key, value in live["tags"].items() if key not in keys}
        self._write_part("tags", live["tags"])

    def delete(self, live):
        if self.params["force"]:
            self._empty()
        self.client.delete_bucket(Bucket=self.name)

    def _empty(self):
        for page in self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.name):
            for upload in page.get("Uploads", []):
                self.client.abort_multipart_upload(Bucket=self.name, Key=upload["Key"], UploadId=upload["UploadId"])
        while batch := self._first_objects():
            answer = self.client.delete_objects(Bucket=self.name, Delete={"Objects": batch, "Quiet": True})
            for error in answer.get("Errors", []):
                raise Failed(f"S3 doesn't remove the object '{error['Key']}': {error['Message']}")

    def _first_objects(self, limit=BATCH):
        """Return the first versions and delete markers in the bucket, as DeleteObjects takes them."""
        page = self.client.list_object_versions(Bucket=self.name, MaxKeys=limit)
        versions = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        return [{"Key": version["Key"], "VersionId": version["VersionId"]} for version in versions]

    def predict(self, desired):
        return {"Name": self.name, "Arn": self.arn, "Region": self.client.meta.region_name, "tags": {}}


def main():
    blocks = ("block_public_acls", "ignore_public_acls", "block_public_policy", "restrict_public_buckets")
    module = AnsibleAWSModule(
        argument_spec=options(
            name={"required": True},
            force={"type": "bool", "default": False},
            adopt={"type": "bool", "default": False},
            encryption={"choices": ["AES256", "aws:kms"], "default": "AES256"},
            kms_key={"no_log": False},
            bucket_key={"type": "bool", "default": True, "no_log": False},
            versioning={"type": "bool", "default": True},
            public_access_block={
                "type": "dict",
                "default": {},
                "options": {block: {"type": "bool", "default": True} for block in blocks},
            },
            policy={"type": "json"},
            require_tls={"type": "bool", "default": True},
            noncurrent_version_days={"type": "int"},
            abort_incomplete_upload_days={"type": "int", "default": 7},
            lifecycle_rules={"type": "list", "elements": "dict", "default": []},
            access_logging={
                "type": "dict",
                "options": {"bucket": {"required": True}, "prefix": {"default": ""}},
            },
            **TAG_OPTIONS,
        ),
        supports_check_mode=True,
    )
    Bucket(module).run()


if __name__ == "__main__":
    main()
