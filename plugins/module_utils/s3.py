# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The pure part of the module s3_bucket: the parts of a bucket, from options and in S3's own terms."""

from __future__ import annotations

import json

from ansible_collections.amazon.aws.plugins.module_utils.tagging import (
    ansible_dict_to_boto3_tag_list,
    boto3_tag_list_to_ansible_dict,
)


def encryption_of(answer):
    """Return the default encryption from S3's answer."""
    rule = answer["ServerSideEncryptionConfiguration"]["Rules"][0]
    return {**rule["ApplyServerSideEncryptionByDefault"], "BucketKeyEnabled": rule.get("BucketKeyEnabled", False)}


def lifecycle_rule(rule, position=1):
    """Return a lifecycle rule with what may be left out; ``Prefix`` beside ``Filter`` is S3's older spelling."""
    given = {key: value for key, value in rule.items() if key != "Prefix"}
    everything = {"Prefix": rule.get("Prefix", "")}
    return {"ID": f"rule-{position}", "Status": "Enabled", **given, "Filter": rule.get("Filter") or everything}


#: Part of a bucket -> what it is called in S3's Get operation, the error where it is not set, and how the answer is
#: read. They are written in this order: the bucket is closed first.
PARTS = {
    "PublicAccessBlock": (
        "public_access_block",
        "NoSuchPublicAccessBlockConfiguration",
        lambda answer: answer["PublicAccessBlockConfiguration"],
    ),
    "ObjectOwnership": (
        "bucket_ownership_controls",
        "OwnershipControlsNotFoundError",
        lambda answer: answer["OwnershipControls"]["Rules"][0]["ObjectOwnership"],
    ),
    "Encryption": ("bucket_encryption", "ServerSideEncryptionConfigurationNotFoundError", encryption_of),
    "Versioning": ("bucket_versioning", None, lambda answer: answer.get("Status")),
    "LifecycleRules": (
        "bucket_lifecycle_configuration",
        "NoSuchLifecycleConfiguration",
        lambda answer: [lifecycle_rule(rule) for rule in answer["Rules"]],
    ),
    "Policy": ("bucket_policy", "NoSuchBucketPolicy", lambda answer: json.loads(answer["Policy"])),
    "AccessLogging": ("bucket_logging", None, lambda answer: answer.get("LoggingEnabled")),
    "tags": ("bucket_tagging", "NoSuchTagSet", lambda answer: boto3_tag_list_to_ansible_dict(answer["TagSet"])),
}


def writing(part, value):
    """Return the call that writes a part of a bucket: S3's operation and its arguments."""
    match part:
        case "PublicAccessBlock":
            return "put_public_access_block", {"PublicAccessBlockConfiguration": value}
        case "ObjectOwnership":
            return "put_bucket_ownership_controls", {"OwnershipControls": {"Rules": [{"ObjectOwnership": value}]}}
        case "Encryption":
            default = {key: value[key] for key in ("SSEAlgorithm", "KMSMasterKeyID") if value.get(key)}
            rule = {"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": value["BucketKeyEnabled"]}
            return "put_bucket_encryption", {"ServerSideEncryptionConfiguration": {"Rules": [rule]}}
        case "Versioning":
            return "put_bucket_versioning", {"VersioningConfiguration": {"Status": value}}
        case "LifecycleRules" if value:
            return "put_bucket_lifecycle_configuration", {"LifecycleConfiguration": {"Rules": value}}
        case "LifecycleRules":
            return "delete_bucket_lifecycle", {}
        case "Policy" if value:
            return "put_bucket_policy", {"Policy": json.dumps(value)}
        case "Policy":
            return "delete_bucket_policy", {}
        case "AccessLogging":
            return "put_bucket_logging", {"BucketLoggingStatus": {"LoggingEnabled": value} if value else {}}
        case "tags" if value:
            return "put_bucket_tagging", {"Tagging": {"TagSet": ansible_dict_to_boto3_tag_list(value)}}
        case "tags":
            return "delete_bucket_tagging", {}


def lifecycle_rules(params):
    """Return all lifecycle rules: the two that have options of their own, and the person's."""
    everything = {"Status": "Enabled", "Filter": {"Prefix": ""}}
    rules = [lifecycle_rule(rule, position) for position, rule in enumerate(params["lifecycle_rules"], start=1)]
    if days := params["abort_incomplete_upload_days"]:
        abort = {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": days}}
        rules.append({"ID": "abort-incomplete-uploads", **everything, **abort})
    if days := params["noncurrent_version_days"]:
        expire = {
            "NoncurrentVersionExpiration": {"NoncurrentDays": days},
            "Expiration": {"ExpiredObjectDeleteMarker": True},
        }
        rules.append({"ID": "expire-noncurrent-versions", **everything, **expire})
    return rules


def bucket_policy(params, arn):
    """Return the bucket's policy, with the statement that refuses requests without TLS, or None."""
    policy = json.loads(params["policy"] or "null") or {"Version": "2012-10-17", "Statement": []}
    statements = policy["Statement"] if isinstance(policy["Statement"], list) else [policy["Statement"]]
    if params["require_tls"]:
        tls = {
            "Sid": "RequireTLS",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [arn, f"{arn}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
        statements = [*statements, tls]
    return {**policy, "Statement": statements} if statements else None
