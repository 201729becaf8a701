#!/usr/bin/python
# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# A converge that changes nothing costs some seventy tasks, each of which reads a little. This module reads all of it in
# one concurrent pass and compares it with the last successful converge, so that unchanged components need no task.

from __future__ import annotations

DOCUMENTATION = r"""
---
module: stack_record
short_description: Compare the live stack with what its last successful converge left
version_added: 0.1.0
description:
  - Reads the live resources of all components in one pass of concurrent calls, a document for each component, and
    compares them with the record of the last successful converge. Waves after the last component that is recorded or
    asked for are not read.
  - A component is unchanged if its inputs (variables, code of role and modules), its own document, and the documents of
    all components of earlier waves equal those in the record.
  - The record is an object in the stack's bucket. It is a cache and never a source of truth. Where it is missing or not
    readable, nothing is unchanged.
author:
  - The metaflow-ansible authors
options:
  bucket:
    description: Name of the stack's bucket.
    type: str
    required: true
  key:
    description: Key of the record in the bucket.
    type: str
    default: mlops.metaflow/record.json
  components:
    description: Components to compare or to record.
    type: list
    elements: str
    default: []
  names:
    description:
      - Names of the stack, region, account and partition, which tell what to read; the variables C(stack_*) without the
        prefix.
      - The action plug-in sets it.
    type: dict
    default: {}
  waves:
    description: Components by wave, in the order in which waves converge.
    type: list
    elements: list
    required: true
  inputs:
    description:
      - Digest of the inputs of each of O(components).
      - The action plug-in sets it, from what the task C(preflight) kept in facts.
    type: dict
    default: {}
  files:
    description:
      - Component to the paths of files on this machine that are part of what it manages.
      - The action plug-in sets it, like O(inputs).
    type: dict
    default: {}
  read:
    description:
      - Components whose live resources are read. Those of the others count as they were recorded, which holds, for the
        rest of a run, for what its first comparison has found equal.
      - All if it isn't given.
    type: list
    elements: str
  notes:
    description: With O(state=present), what to keep with the record and to return when it is compared.
    type: dict
    default: {}
  state:
    description:
      - C(compared) reads and compares, and changes nothing.
      - C(present) reads and writes the record of the components in O(inputs).
      - C(absent) removes the record with all its versions.
    type: str
    choices: [compared, present, absent]
    default: compared
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    description: Reads and compares, and writes nothing.
    support: full
  diff_mode:
    description: The record is a cache. What differs from it is in the result.
    support: none
"""

EXAMPLES = r"""
- name: Compare the live stack with its last converge
  mlops.metaflow.stack_record:
    bucket: metaflow-prod-123456789012-eu-west-1
    components: [network, datastore, database, batch]
    waves: [[network, datastore], [database, batch]]
  register: __stack_record
"""

RETURN = r"""
unchanged:
  description: Components that equal the record in everything.
  returned: O(state=compared)
  type: list
  elements: str
  sample: [network, datastore]
waiting:
  description: Components that equal it but for an earlier wave, which may become equal when that wave has converged.
  returned: O(state=compared)
  type: list
  elements: str
  sample: [batch]
reasons:
  description: Why each of the others is to be converged.
  returned: O(state=compared)
  type: dict
  sample: {registry: its inputs differ from the last converge}
differing:
  description: Components, also others than O(components), whose resources differ from the record or have none.
  returned: O(state=compared)
  type: list
  elements: str
  sample: [network]
differences:
  description: What differs between record and account, resource by resource.
  returned: O(state=compared)
  type: list
  elements: dict
  sample:
    - component: batch
      path: batch describe_job_queues.jobQueues[metaflow-prod].priority
      recorded: 10
      live: 99
recorded:
  description: Components that there is a record of.
  returned: O(state=compared)
  type: list
  elements: str
  sample: [batch, datastore, network]
notes:
  description: What was kept with the record.
  returned: O(state=compared)
  type: dict
  sample: {service_url: https://a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com/api}
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    import botocore.exceptions

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.mlops.metaflow.plugins.module_utils import discovery, live, live_reads
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import error_code

#: Of the record's form. A record of another form is no record.
VERSION = 1
NO_RECORD = {"version": VERSION, "components": {}, "notes": {}}


def is_sound(record):
    """Tell whether a record has the form that this version writes: anybody may have put anything into the bucket."""
    try:
        return record["version"] == VERSION and all(
            isinstance(part, kind)
            for part, kind in [
                (record["notes"], dict),
                *((kept["inputs"], str) for kept in record["components"].values()),
                *((kept["document"], dict) for kept in record["components"].values()),
                *((kept["earlier"], dict) for kept in record["components"].values()),
            ]
        )
    except (KeyError, TypeError, AttributeError):
        return False


def read_files(paths):
    """Return ``{path: {file: {"sha256", "mode"}}}`` of files and of all files in folders."""
    return {path: read_file_tree(Path(path).expanduser()) for path in paths}


def read_file_tree(path):
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    document = {}
    for file in files:
        # A file that isn't there is told from one that is by its absence here.
        if file.is_file() and "__pycache__" not in file.parts:
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            name = str(file.relative_to(path.parent))
            document[name] = {"sha256": content, "mode": oct(file.stat().st_mode & 0o777)}
    return document


def concerned(params, record):
    """Return the components that are recorded or given, and those of all waves before: they build on nothing later."""
    components = {*record["components"], *params["inputs"]}
    last = max((number for number, wave in enumerate(params["waves"]) if components & {*wave}), default=-1)
    return components.union(*params["waves"][: last + 1])


def read_live(params, record, client):
    """Return ``(documents, unreadable)`` of all components that have reads and are of any concern.

    Those that the parameter ``read`` leaves out have their recorded documents.
    The run tells the files of the components that it has selected. Those of others count as they were recorded: their
    paths are not followed, because whoever may write to the bucket could name any.
    """
    names, files, asked = params["names"], params["files"], params["read"]
    as_recorded = {
        component: kept["document"]
        for component, kept in record["components"].items()
        if asked is not None and component not in asked
    }
    wanted = concerned(params, record) - as_recorded.keys()
    reads = {component: calls(names) for component, calls in live_reads.READS.items() if component in wanted}
    documents, unreadable = live.read_documents(reads, client)
    for component, document in documents.items():
        recorded = record["components"].get(component, {"document": {}})["document"].get("files")
        found = read_files(files[component]) if component in files else recorded
        if found:
            document["files"] = found
    return as_recorded | documents, unreadable


def differing(record, documents, components):
    """Return those of the components whose documents differ from the record."""
    return sorted(
        component
        for component in components
        if component not in documents
        or component not in record["components"]
        or record["components"][component]["document"] != documents[component]
    )


def earlier_digests(waves, digests, component):
    """Return the digests of the components of all waves before the component's own."""
    earlier = {}
    for wave in waves:
        if component in wave:
            return earlier
        earlier |= {name: digests[name] for name in wave if name in digests}
    return earlier


def compare(record, inputs, documents, waves):
    """Return ``(unchanged, waiting, reasons)`` for the components in ``inputs``."""
    digests = {name: live.digest(document) for name, document in documents.items()}
    unchanged, waiting, reasons = [], [], {}
    for component, given in inputs.items():
        recorded = record["components"].get(component)
        if recorded is None:
            reasons[component] = "there is no record of a converge"
        elif component not in documents:
            reasons[component] = "what it has in the account is not read in advance"
        elif recorded["inputs"] != given:
            reasons[component] = "its variables or its code differ from the last converge"
        elif live.digest(recorded["document"]) != digests[component]:
            reasons[component] = "what it has in the account differs from the last converge"
        elif recorded["earlier"] != earlier_digests(waves, digests, component):
            reasons[component] = "a component of an earlier wave differs from the last converge"
            waiting.append(component)
        else:
            unchanged.append(component)
    return unchanged, waiting, reasons


def entries(inputs, documents, waves):
    """Return what is recorded of the components in ``inputs``."""
    digests = {name: live.digest(document) for name, document in documents.items()}
    return {
        component: {
            "inputs": given,
            "document": documents[component],
            "earlier": earlier_digests(waves, digests, component),
        }
        for component, given in inputs.items()
    }


class Store:
    """The record in the bucket."""

    def __init__(self, module, client):
        self._module = module
        self._s3 = client("s3")
        self._place = {"Bucket": module.params["bucket"], "Key": module.params["key"]}

    def read(self):
        """Return the record; an empty one where there is none that can be read."""
        try:
            body = self._s3.get_object(**self._place)["Body"].read()
            record = json.loads(body)
        except botocore.exceptions.ClientError as error:
            if error_code(error) not in ("NoSuchKey", "NoSuchBucket"):
                self._module.warn(f"The record of the last converge can't be read, so every component runs: {error}")
            return NO_RECORD
        except ValueError as error:
            self._module.warn(f"The record of the last converge is no JSON, so every component runs: {error}")
            return NO_RECORD
        return record if is_sound(record) else NO_RECORD

    def write(self, record):
        """Write the record. That it can't be written costs the next run time, and is no failure of this one."""
        body = json.dumps(record, sort_keys=True).encode()
        try:
            self._s3.put_object(**self._place, Body=body, ContentType="application/json")
        except botocore.exceptions.ClientError as error:
            self._module.warn(f"The converge can't be recorded, so the next run goes through all tasks: {error}")

    def versions(self):
        """Return all versions of the record, its delete markers among them."""
        bucket, key = self._place["Bucket"], self._place["Key"]
        try:
            pages = list(self._s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key))
        except botocore.exceptions.ClientError as error:
            if error_code(error) != "NoSuchBucket":
                raise
            return []
        kinds = ("Versions", "DeleteMarkers")
        items = [item for page in pages for kind in kinds for item in page.get(kind, []) if item["Key"] == key]
        return [{"Key": key, "VersionId": item["VersionId"]} for item in items]

    def remove(self, versions):
        for start in range(0, len(versions), 1000):  # S3 takes a thousand at a time
            batch = {"Objects": versions[start : start + 1000], "Quiet": True}
            answer = self._s3.delete_objects(Bucket=self._place["Bucket"], Delete=batch)
            if answer.get("Errors"):
                self._module.fail_json(msg=f"The record can't be removed: {answer['Errors'][0]['Message']}")


def compared(module, client, store):
    params = module.params
    record = store.read()
    documents, unreadable = {}, {}
    if record["components"]:  # a stack's first run has nothing to compare the account with
        documents, unreadable = read_live(params, record, client)
    for component, why in unreadable.items():
        module.warn(f"What {component} has in the account can't be read in advance, so it runs: {why}")
    unchanged, waiting, reasons = compare(record, params["inputs"], documents, params["waves"])
    found = [
        {"component": component, **difference}
        for component, recorded in record["components"].items()
        if component in documents
        for difference in live.differences(recorded["document"], documents[component])
    ]
    return {
        "changed": False,
        "unchanged": unchanged,
        "waiting": waiting,
        "reasons": reasons,
        "differing": differing(record, documents, concerned(params, record)),
        "differences": found,
        "recorded": sorted(record["components"]),
        "notes": record["notes"],
    }


def written(module, client, store):
    params = module.params
    record = store.read()
    documents, unreadable = read_live(params, record, client)
    for component, why in unreadable.items():
        module.warn(f"What {component} has in the account can't be read and so not be recorded: {why}")
    # What another component can't be read of counts as it was recorded: the next comparison reads it again.
    known = {name: kept["document"] for name, kept in record["components"].items()} | documents
    given = {component: digest for component, digest in params["inputs"].items() if component in documents}
    kept = {name: kept for name, kept in record["components"].items() if name not in params["inputs"]}
    components = kept | entries(given, known, params["waves"])
    new = {"version": VERSION, "components": components, "notes": params["notes"] or record["notes"]}
    if new != record and not module.check_mode:
        store.write(new)
    # A cache is no part of the stack: that it was written is no change of it.
    return {"changed": False}


def removed(module, client, store):
    versions = store.versions()
    if versions and not module.check_mode:
        store.remove(versions)
    return {"changed": bool(versions)}


def main():
    module = AnsibleAWSModule(
        argument_spec={
            "bucket": {"required": True},
            # A key of S3, no secret.
            "key": {"default": "mlops.metaflow/record.json", "no_log": False},
            "components": {"type": "list", "elements": "str", "default": []},
            "names": {"type": "dict", "default": {}},
            "waves": {"type": "list", "elements": "list", "required": True},
            "inputs": {"type": "dict", "default": {}},
            "files": {"type": "dict", "default": {}},
            "read": {"type": "list", "elements": "str"},
            "notes": {"type": "dict", "default": {}},
            "state": {"choices": ["compared", "present", "absent"], "default": "compared"},
        },
        supports_check_mode=True,
    )
    client = discovery.client_factory(module)
    act = {"compared": compared, "present": written, "absent": removed}[module.params["state"]]
    try:
        result = act(module, client, Store(module, client))
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        module.fail_json_aws(error, msg="Failed to compare the stack with its record")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
