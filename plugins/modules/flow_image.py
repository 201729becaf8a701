#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# community.docker.docker_image_build and docker_image_push build and push, each at every change of a tag that somebody
# else must choose; they know neither ECR's tokens nor its scans, nor CodeBuild.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: flow_image
short_description: Build the container image of flows by its content, and keep it in ECR
version_added: 0.1.0
description:
  - Makes a tag of all that an image depends on. Where ECR has an image of that tag, nothing is built and nothing is
    pushed.
  - The image that is in use has one more tag, O(current_tag), by which others find it.
  - Awaits ECR's scan of the image and says what it found.
author:
  - The metaflow-ansible authors
options:
  name:
    description: Name of the ECR repository, e.g. C(metaflow-prod/flows).
    type: str
    required: true
  state:
    description:
      - Whether there is an image in use.
      - With V(absent) the tag O(current_tag) is taken away. The image stays in the repository, because jobs may use it.
    choices: [present, absent]
    default: present
    type: str
  current_tag:
    description: The tag of the image in use. It moves to the image that the content asks for.
    type: str
    default: current
  requirements:
    description: Requirements file of pip on this machine, for which O(dockerfile_content) is the Dockerfile.
    type: path
  dockerfile_content:
    description: The Dockerfile that installs C(requirements.txt).
    type: str
  dockerfile:
    description: Dockerfile on this machine, in O(context).
    type: path
  context:
    description: Folder that O(dockerfile) may copy from. What its C(.dockerignore) names is left out.
    type: path
  platform:
    description: For which machines the image is.
    choices: [linux/amd64, linux/arm64]
    default: linux/amd64
    type: str
  pull:
    description: Whether Docker looks for a newer base image. Turn it off for one that only this machine has.
    type: bool
    default: true
  revision:
    description: Part of the content. Another one builds the image again, with newer packages and a newer base image.
    type: str
    default: ""
  build_secrets:
    description:
      - Map of a build secret's id to the secret in Secrets Manager that has its value below a key of the same name.
      - The values are in no layer, no log and on no command line.
    type: dict
    default: {}
  builder:
    description: Who builds - Docker on this machine, or the project O(project) of CodeBuild.
    choices: [docker, codebuild]
    default: docker
    type: str
  project:
    description: Project of CodeBuild. Needed with O(builder=codebuild).
    type: str
  bucket:
    description: S3 bucket through which CodeBuild gets the context. Needed with O(builder=codebuild).
    type: str
  bucket_prefix:
    description: Where in the bucket the context lies while it is built.
    type: str
    default: flow-image/
  scan_severity:
    description: Findings of ECR's scan of this severity and above are said.
    choices: [CRITICAL, HIGH, MEDIUM, LOW, INFORMATIONAL]
    default: HIGH
    type: str
  scan_refused:
    description: Refuse an image with such findings; the one that was in use stays in use.
    type: bool
    default: false
  scan_timeout:
    description: Longest wait for ECR's scan in seconds. 0 waits for none, and looks at none.
    type: int
    default: 300
  wait:
    description: Has no effect. An image is built when the module ends.
    type: bool
    default: true
  wait_timeout:
    description: Longest time of the build in seconds.
    type: int
    default: 1800
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Says whether it would build, and changes nothing.
    support: full
  diff_mode:
    description: Shows the tags of the image in use before and after.
    support: full
requirements:
  - docker (Python library)
"""

EXAMPLES = r"""
- name: Build the image of flows from a requirements file
  mlops.metaflow.flow_image:
    name: metaflow-prod/flows
    requirements: flows/requirements.txt
    dockerfile_content: "{{ lookup('ansible.builtin.template', 'Dockerfile.j2') }}"

- name: Let CodeBuild build it from a Dockerfile, with an index of packages that needs a password
  mlops.metaflow.flow_image:
    name: metaflow-prod/flows
    dockerfile: flows/Dockerfile
    context: flows
    build_secrets: {PIP_INDEX_URL: metaflow-prod/flows/PIP_INDEX_URL}
    builder: codebuild
    project: metaflow-prod-flow-image
    bucket: metaflow-prod-123456789012-eu-west-1
"""

RETURN = r"""
image:
  description: The image in use.
  returned: success
  type: dict
  contains:
    build:
      description: Who has built it in this run, or would in check mode; empty where the image is there.
      type: str
      sample: codebuild
    findings:
      description: How many findings of each severity ECR's scan has.
      type: dict
      sample: {HIGH: 2}
    image_digest: {type: str, description: The image's digest., sample: "sha256:4f…"}
    image_tag: {type: str, description: The tag of its content., sample: content-0a1b2c3d4e5f60718293}
    image_uri:
      description: The image as jobs name it.
      type: str
      sample: 123456789012.dkr.ecr.eu-west-1.amazonaws.com/metaflow-prod/flows:content-0a1b2c3d4e5f60718293
"""

import tempfile
import time
from contextlib import suppress

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    from botocore.exceptions import ClientError

from ansible.module_utils.basic import missing_required_lib
from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils.container_engine import docker_builds
from ansible_collections.mlops.metaflow.plugins.module_utils.discovery import client_factory
from ansible_collections.mlops.metaflow.plugins.module_utils.image_build import BUILDERS
from ansible_collections.mlops.metaflow.plugins.module_utils.image_source import Source, content_tags
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import (
    AwsResource,
    Failed,
    error_code,
    options,
)

try:
    import docker  # noqa: F401
except ImportError:
    HAS_DOCKER = False
else:
    HAS_DOCKER = True

SEVERITIES = ["CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL"]

#: ECR still scans; enhanced scanning goes on for as long as the image is there, and says ACTIVE when it has a result.
SCANNING = ("PENDING", "IN_PROGRESS")
SCANNED = ("COMPLETE", "ACTIVE")


class FlowImage(AwsResource):
    """The image in use: the one of a repository that has the tag ``current``."""

    kind = "flow image"
    service = "ecr"
    result_key = "image"

    def __init__(self, module):
        super().__init__(module)
        self._clients = client_factory(module)
        self._tag = ""
        self._found = {}
        self._build = ""

    def declare(self):
        params = self.params
        if params["requirements"]:
            self._source = Source.of_requirements(params["requirements"], params["dockerfile_content"])
        else:
            self._source = Source.of_dockerfile(params["dockerfile"], params["context"])
        self._archive = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the module
        self._source.write(self._archive)
        settings = {key: params[key] for key in ("platform", "revision")}
        self._tag = self._source.tag(self._archive, secrets=sorted(params["build_secrets"]), **settings)
        return {"imageTag": self._tag}

    def read(self):
        return self._read_tagged(self.params["current_tag"])

    def _read_tagged(self, tag):
        """Return the image of a tag, with the tag of its content: the one asked for where it has several."""
        try:
            (detail,) = self.client.describe_images(repositoryName=self.name, imageIds=[{"imageTag": tag}])[
                "imageDetails"
            ]
        except ClientError as error:
            if error_code(error) not in ("ImageNotFoundException", "RepositoryNotFoundException"):
                raise
            return None
        tags = content_tags(detail.get("imageTags"))
        shown = self._tag if self._tag in tags else next(iter(tags), "")
        return {"imageDigest": detail["imageDigest"], "imageTag": shown}

    def refine(self, desired, live):
        tag = desired["imageTag"]
        if (live and live["imageTag"] == tag) or self._read_tagged(tag):
            return desired
        self._build = self.params["builder"]
        if self._build == "docker" and not docker_builds():
            self.module.fail_json(
                msg=f"Failed to build {self.kind} '{self.name}': no container engine answers on this machine, or "
                "Docker's command has no buildx, by which secrets stay out of layers. Install both, or let CodeBuild "
                "build."
            )
        return desired

    def create(self, desired):
        self.update(None, desired, desired)

    def update(self, live, desired, changes):
        tag = desired["imageTag"]
        if self._build:
            self._build_image(tag)
        self._look_at_scan(tag)
        self._move(live, tag)

    def _build_image(self, tag):
        builder = BUILDERS[self._build](self._clients, self.params, self._uri(tag), self.params["wait_timeout"])
        try:
            builder.run(self._source, self._archive)
        except Failed:
            # A build that a killed run had begun may have come first; the tag can't be pushed a second time.
            if self._read_tagged(tag) is None:
                raise

    def _move(self, live, tag):
        """Give the tag of the image in use to another one: tags of the repository can't be overwritten."""
        (image,) = self.client.batch_get_image(repositoryName=self.name, imageIds=[{"imageTag": tag}])["images"]
        current = self.params["current_tag"]
        if live:
            self.client.batch_delete_image(repositoryName=self.name, imageIds=[{"imageTag": current}])
        self.client.put_image(
            repositoryName=self.name,
            imageManifest=image["imageManifest"],
            imageManifestMediaType=image["imageManifestMediaType"],
            imageTag=current,
        )

    def settled(self, live):
        # An image that is in use may have findings since yesterday.
        if not self._found:
            self._look_at_scan(live["imageTag"])
        return True

    def _look_at_scan(self, tag):
        if self.params["scan_timeout"] == 0:
            return
        status, counts = self._await_scan(tag)
        self._found = {"status": status, "counts": counts}
        if status not in SCANNED:
            self.module.warn(f"ECR has not scanned {self.name}:{tag}: {status}")
        above = SEVERITIES[: SEVERITIES.index(self.params["scan_severity"]) + 1]
        said = ", ".join(f"{counts[severity]} {severity}" for severity in above if counts.get(severity))
        if not said:
            return
        message = (
            f"ECR's scan of {self.name}:{tag} has findings: {said}. aws ecr describe-image-scan-findings "
            f"--repository-name {self.name} --image-id imageTag={tag} shows them"
        )
        if self.params["scan_refused"]:
            raise Failed(f"{message}; scan_refused is true")
        self.module.warn(message)

    def _await_scan(self, tag):
        started = time.monotonic()
        while True:
            status, counts = self._read_scan(tag)
            if status not in SCANNING or time.monotonic() - started > self.params["scan_timeout"]:
                return status, counts
            time.sleep(2)

    def _read_scan(self, tag):
        try:
            answer = self.client.describe_image_scan_findings(repositoryName=self.name, imageId={"imageTag": tag})
        except ClientError as error:
            if error_code(error) != "ScanNotFoundException":
                raise
            return "the repository doesn't scan what is pushed", {}
        scan = answer["imageScanStatus"]
        status = scan["status"] if scan["status"] in SCANNED + SCANNING else scan.get("description") or scan["status"]
        return status, answer.get("imageScanFindings", {}).get("findingSeverityCounts", {})

    def delete(self, live):
        self.client.batch_delete_image(repositoryName=self.name, imageIds=[{"imageTag": self.params["current_tag"]}])

    def predict(self, desired):
        return {"imageDigest": "predicted"}

    def shown(self, resource):
        tag = resource["imageTag"]
        return {
            "image_tag": tag,
            "image_uri": self._uri(tag),
            "image_digest": resource["imageDigest"],
            "build": self._build,
            "findings": self._found.get("counts", {}),
        }

    def _uri(self, tag):
        _, partition, _, region, account, _ = self.arn("").split(":")
        suffix = "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com"
        return f"{account}.dkr.ecr.{region}.{suffix}/{self.name}:{tag}"


def main():
    module = AnsibleAWSModule(
        argument_spec=options(
            name={"required": True},
            current_tag={"default": "current"},
            requirements={"type": "path"},
            dockerfile_content={},
            dockerfile={"type": "path"},
            context={"type": "path"},
            platform={"choices": ["linux/amd64", "linux/arm64"], "default": "linux/amd64"},
            pull={"type": "bool", "default": True},
            revision={"default": ""},
            # Names of secrets, not their values.
            build_secrets={"type": "dict", "default": {}, "no_log": False},
            builder={"choices": ["docker", "codebuild"], "default": "docker"},
            project={},
            bucket={},
            bucket_prefix={"default": "flow-image/"},
            scan_severity={"choices": SEVERITIES, "default": "HIGH"},
            scan_refused={"type": "bool", "default": False},
            scan_timeout={"type": "int", "default": 300},
            wait_timeout={"type": "int", "default": 1800},
        ),
        mutually_exclusive=[("requirements", "dockerfile")],
        required_by={"requirements": "dockerfile_content", "dockerfile": "context"},
        required_if=[
            ("state", "present", ("requirements", "dockerfile"), True),
            ("builder", "codebuild", ("project", "bucket")),
        ],
        supports_check_mode=True,
    )
    if not HAS_DOCKER:
        module.fail_json(msg=missing_required_lib("docker"))
    FlowImage(module).run()


if __name__ == "__main__":
    main()
