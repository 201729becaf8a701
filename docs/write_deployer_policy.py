#!/usr/bin/env python3
"""Write the IAM policy of whoever runs the playbooks, from docs/deployer_policy.yml.

python docs/write_deployer_policy.py
    # the example, docs/deployer-policy.json
python docs/write_deployer_policy.py --environment prod --region eu-west-1 --account 123456789012 > policy.json
    # your own
python docs/write_deployer_policy.py --record http://127.0.0.1:5000
    # docs/deployer-calls.txt: what the roles have called on the emulator at this address
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import yaml

#: IAM counts the characters of a managed policy without white space, and takes so many.
LIMIT = 6144

DOCS = Path(__file__).resolve().parent
TEMPLATE = DOCS / "deployer_policy.yml"
CALLS = DOCS / "deployer-calls.txt"
EXAMPLE = DOCS / "deployer-policy.json"
EXAMPLE_STACK = {"name": "metaflow", "environment": "prod", "region": "eu-west-1", "account": "123456789012"}

#: Key id of the credentials in inventories/local, by which the emulator tells the playbooks' calls from others.
KEY_ID = "emulated-account"

#: IAM's prefix of a service where it is not botocore's name.
PREFIXES = {"elbv2": "elasticloadbalancing", "resourcegroupstaggingapi": "tag", "stepfunctions": "states"}

#: IAM's actions for a call that has another name (Service Authorization Reference, "actions defined by").
ACTIONS = {
    "s3:DeleteObjects": ["s3:DeleteObject", "s3:DeleteObjectVersion"],
    "s3:GetBucketEncryption": ["s3:GetEncryptionConfiguration"],
    "s3:GetBucketLifecycleConfiguration": ["s3:GetLifecycleConfiguration"],
    "s3:GetPublicAccessBlock": ["s3:GetBucketPublicAccessBlock"],
    "s3:HeadBucket": ["s3:ListBucket"],
    "s3:HeadObject": ["s3:GetObject"],
    "s3:ListMultipartUploads": ["s3:ListBucketMultipartUploads"],
    "s3:ListObjectVersions": ["s3:ListBucketVersions"],
    "s3:ListObjectsV2": ["s3:ListBucket"],
    "s3:PutBucketEncryption": ["s3:PutEncryptionConfiguration"],
    "s3:PutBucketLifecycleConfiguration": ["s3:PutLifecycleConfiguration"],
    "s3:PutPublicAccessBlock": ["s3:PutBucketPublicAccessBlock"],
    "apigateway:TagResource": ["apigateway:PUT"],
    "apigateway:UntagResource": ["apigateway:DELETE"],
}

#: API Gateway's actions are HTTP methods.
METHODS = {"Create": "POST", "Delete": "DELETE", "Get": "GET", "Put": "PUT", "Update": "PATCH"}


def actions_of(call: str) -> list[str]:
    """Return the IAM actions that a call ("s3:HeadBucket") needs."""
    if call in ACTIONS:
        return ACTIONS[call]
    service, operation = call.split(":")
    if service == "apigateway":
        return [f"apigateway:{METHODS[re.match('[A-Z][a-z]+', operation)[0]]}"]
    return [f"{PREFIXES.get(service, service)}:{operation}"]


def recorded_actions() -> set[str]:
    """Return the IAM actions that the recorded calls need."""
    return {action for call in CALLS.read_text().split() for action in actions_of(call)}


def statements() -> list[dict[str, Any]]:
    return yaml.safe_load(TEMPLATE.read_text())


def filled(value: Any, names: dict[str, str]) -> Any:
    """Return a value of the template with the names of a stack in place of ``{…}``."""
    if isinstance(value, dict):
        return {key: filled(part, names) for key, part in value.items()}
    if isinstance(value, list):
        return [filled(part, names) for part in value]
    return value.format(**names)


def policy(name: str, environment: str, region: str, account: str) -> dict[str, Any]:
    """Return the policy for one stack."""
    partition = "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"
    names = {"name": name, "environment": environment, "region": region, "account": account, "partition": partition}
    names["prefix"] = f"{name}-{environment}"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": statement["sid"],
                "Effect": "Allow",
                "Action": statement["actions"],
                "Resource": filled(statement["resources"], names),
                **({"Condition": filled(statement["condition"], names)} if "condition" in statement else {}),
            }
            for statement in statements()
        ],
    }


def compact(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))


def parts(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a policy as several that keep IAM's limit, each with as many whole statements as fit."""
    documents = [{**document, "Statement": []}]
    for statement in document["Statement"]:
        longer = {**document, "Statement": [*documents[-1]["Statement"], statement]}
        if len(compact(longer)) <= LIMIT:
            documents[-1] = longer
        else:
            documents.append({**document, "Statement": [statement]})
    return documents


def record(endpoint: str) -> set[str]:
    """Return the calls (``service:Operation``) that the playbooks have made on an emulator since it started."""
    with urlopen(f"{endpoint}/_emulator/calls/log") as answer:  # noqa: S310 (the address is given by the caller)
        calls = json.load(answer)["calls"]
    return {f"{call['service']}:{call['action']}" for call in calls if call["key_id"] == KEY_ID}


def write_parts(directory: Path, name: str, environment: str, region: str, account: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(parts(policy(name, environment, region, account)), start=1):
        (directory / f"{name}-{environment}-deployer-{number}.json").write_text(compact(part) + "\n")


def example() -> str:
    """Return the text of docs/deployer-policy.json."""
    return json.dumps(policy(**EXAMPLE_STACK), indent=2) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the IAM policy of whoever runs the playbooks.")
    parser.add_argument("--record", metavar="URL", help="record the calls made on the emulator at this address")
    parser.add_argument("--into", type=Path, metavar="DIRECTORY", help="write the policy of your own stack there")
    parser.add_argument("--name", default="metaflow", help="stack_name (default: %(default)s)")
    parser.add_argument("--environment", help="stack_environment")
    parser.add_argument("--region", help="stack_region")
    parser.add_argument("--account", help="stack_account_id")
    args = parser.parse_args()
    if args.record:
        CALLS.write_text("\n".join(sorted(record(args.record))) + "\n")
    elif args.into:
        if not (args.environment and args.region and args.account):
            parser.error("--into needs --environment, --region and --account")
        write_parts(args.into, args.name, args.environment, args.region, args.account)
    else:
        EXAMPLE.write_text(example())


if __name__ == "__main__":
    main()
