# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The module ecr_repository against the emulator."""

from __future__ import annotations

import json

import pytest
from steps import Module, answering

NAME = "metaflow-test/flows"
MINIMAL = {"name": NAME, "tags": {"a_B": "c"}}
POLICY = {
    "rules": [
        {
            "rulePriority": 1,
            "selection": {"tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 5},
            "action": {"type": "expire"},
        }
    ]
}
FULL = {
    "name": NAME,
    "image_tag_mutability": "MUTABLE",
    "scan_on_push": False,
    "lifecycle_policy": POLICY,
    "tags": {"Team": "data"},
}
ABSENT = {"name": NAME, "state": "absent"}


@pytest.fixture
def ecr(emulator):
    """A client of the empty account."""
    emulator.reset()
    return emulator.client("ecr")


@pytest.fixture
def repository(ecr, run_module, emulator):
    """The module."""
    return Module(run_module, emulator, "ecr_repository")


def state(ecr):
    """Return what ECR shows of the repository."""
    (live,) = ecr.describe_repositories()["repositories"]
    try:
        policy = json.loads(ecr.get_lifecycle_policy(repositoryName=NAME)["lifecyclePolicyText"])
    except ecr.exceptions.LifecyclePolicyNotFoundException:
        policy = None
    tags = ecr.list_tags_for_resource(resourceArn=live["repositoryArn"])["tags"]
    return {
        "tags can be overwritten": live["imageTagMutability"] == "MUTABLE",
        "scans": live["imageScanningConfiguration"]["scanOnPush"],
        "encryption": live["encryptionConfiguration"]["encryptionType"],
        "policy": policy,
        "tags": {tag["Key"]: tag["Value"] for tag in tags},
    }


def test_twelve_steps(repository, ecr):
    made = repository.change(MINIMAL)["repository"]
    assert made["repository_name"] == NAME
    assert made["repository_uri"].endswith(f".amazonaws.com/{NAME}")
    assert made["tags"] == {"a_B": "c"}
    assert state(ecr) == {
        "tags can be overwritten": False,
        "scans": True,
        "encryption": "AES256",
        "policy": None,
        "tags": {"a_B": "c"},
    }

    assert repository.change(FULL)["repository"]["lifecycle_policy"] == POLICY
    assert state(ecr) == {
        "tags can be overwritten": True,
        "scans": False,
        "encryption": "AES256",
        "policy": POLICY,
        "tags": {"Team": "data"},
    }

    assert repository.change(ABSENT)["repository"] == {}
    assert ecr.describe_repositories()["repositories"] == []


def test_a_policy_that_is_no_longer_declared_goes(repository, ecr):
    repository.run(FULL)
    repository.change({key: value for key, value in FULL.items() if key != "lifecycle_policy"})
    assert state(ecr)["policy"] is None


def test_check_mode_predicts_what_is_then_made(repository, ecr):
    predicted = repository.run(FULL, check=True)["repository"]
    made = repository.run(FULL)["repository"]
    assert predicted["repository_arn"] == made["repository_arn"]
    assert predicted["repository_uri"] == made["repository_uri"]


def test_a_repository_with_images_goes_by_force_only(repository, ecr):
    repository.run(MINIMAL)
    media_type = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = json.dumps({"schemaVersion": 2, "mediaType": media_type, "layers": []})
    ecr.put_image(repositoryName=NAME, imageManifest=manifest, imageManifestMediaType=media_type, imageTag="1")
    failed = repository.run_module(repository.name, ABSENT, fails=True)
    assert "RepositoryNotEmptyException" in failed["msg"]
    assert repository.change(ABSENT | {"force": True})["repository"] == {}


def test_another_encryption_is_refused_before_any_change(repository, ecr):
    repository.run(MINIMAL)
    message = repository.refused(MINIMAL | {"encryption_type": "KMS", "scan_on_push": False})
    assert message == (
        f"Failed to update ECR repository '{NAME}': ECR can't change the encryption of a repository. "
        "Remove it, or give another name."
    )


def test_encryption_with_a_key_of_kms(repository, ecr):
    key = "arn:aws:kms:us-east-1:123456789012:key/0b7a6c5d-1111-4222-8333-444455556666"
    repository.change(MINIMAL | {"encryption_type": "KMS", "kms_key": key})
    repository.run(MINIMAL | {"encryption_type": "KMS"}, changes=False)


def test_it_survives_kills(repository, ecr):
    repository.survives_kills(lambda: FULL, lambda: state(ecr))


def test_what_aws_refuses_is_passed_on(repository, ecr):
    with answering("CreateRepository", "LimitExceededException", "Too many repositories."):
        message = repository.run_module(repository.name, MINIMAL, fails=True)["msg"]
    assert message.startswith(f"Failed to create ECR repository '{NAME}': ") and "Too many repositories." in message
