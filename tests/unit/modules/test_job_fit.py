"""Which Batch jobs fit on a machine of their queue, and what is said of those that don't."""

from __future__ import annotations

import pytest
from ansible_collections.mlops.metaflow.plugins.module_utils.job_fit import (
    Environment,
    Machine,
    Request,
    memory_for_jobs,
    misfit,
)

INSTANCES = Environment(
    "ec2",
    "EC2",
    64,
    (Machine("c6i.large", 2, 3859), Machine("r6i.large", 2, 15532), Machine("m6i.24xlarge", 96, 373523)),
    disk=100,
)
GPUS = Environment("gpu", "SPOT", 192, (Machine("g5.xlarge", 4, 15532, 1), Machine("g5.12xlarge", 48, 186761, 4)), 100)
FARGATE = Environment("fargate", "FARGATE", 32)
EMPTY = Environment("odd", "EC2", 64)


def request(vcpus=1, memory=4096, gpus=0, disk=None):
    return Request("train", "fit", "main", vcpus, memory, gpus, disk)


# name, what is asked for, environments, parts of the sentence (None: it fits)
CASES = [
    ("the smallest", request(), [INSTANCES], None),
    ("the largest", request(64, 373523), [INSTANCES], None),
    ("all vCPUs of a type that is larger than maxvCpus", request(65), [INSTANCES], ["65 vCPUs", "64 vCPUs in all"]),
    ("memory", request(memory=373524), [INSTANCES],
     ["train: the step 'fit' asks for 1 vCPU, 373524 MiB of memory, 0 GPUs", "queue 'main'",
      "ec2 (EC2): the largest that comes near is m6i.24xlarge (96 vCPUs, 373523 MiB for jobs)"]),
    ("memory that only the agent's reserve takes", request(memory=16384), [
        Environment("e", "EC2", 4, (Machine("r6i.large", 2, 15532),))], ["r6i.large (2 vCPUs, 15532 MiB for jobs)"]),
    ("a GPU where there is none", request(gpus=1), [INSTANCES], ["1 GPU"]),
    ("a GPU", request(gpus=4), [INSTANCES, GPUS], None),
    ("more GPUs than one machine has", request(gpus=5), [INSTANCES, GPUS],
     ["5 GPUs", "gpu (SPOT): the largest that comes near is g5.12xlarge (48 vCPUs, 186761 MiB for jobs, 4 GPUs)"]),
    ("a GPU and more memory than its machine has", request(memory=200000, gpus=1), [GPUS], ["g5.12xlarge"]),
    ("disk", request(disk=100), [INSTANCES], None),
    ("more disk than instances have", request(disk=101), [INSTANCES], ["101 GiB of disk", "have 100 GiB of disk"]),
    ("disk where the volume is the image's own", request(disk=101), [
        Environment("e", "EC2", 4, (Machine("m6i.xlarge", 4, 15532),))], None),
    ("no environment", request(), [], ["The queue has no compute environment"]),
    ("no instance type in the region", request(), [EMPTY], ["it has no instance type in this region"]),
    ("the second environment", request(memory=16384, vcpus=4), [EMPTY, FARGATE], None),
    ("Fargate's size", request(1, 4096), [FARGATE], None),
    ("Fargate's smallest", request(0.25, 512), [FARGATE], None),
    ("Fargate: vCPUs that there are not", request(3), [FARGATE], ["Fargate has 0.25, 0.5, 1, 2, 4, 8, 16 vCPUs"]),
    ("Fargate: memory between two sizes", request(1, 4097), [FARGATE],
     ["with 1 vCPU the next size is 5120 MiB of memory"]),
    ("Fargate: too little memory", request(4, 4096), [FARGATE], ["the next size is 8192 MiB"]),
    ("Fargate: too much memory for the vCPUs", request(1, 9000), [FARGATE],
     ["with 1 vCPU the largest that fits is 8192 MiB"]),
    ("Fargate: too many vCPUs", request(32, 122880), [FARGATE], ["the largest that fits is 16 vCPUs with 122880 MiB"]),
    ("Fargate: more than maxvCpus", request(64), [FARGATE], ["32 vCPUs in all"]),
    ("Fargate: a GPU", request(gpus=1), [FARGATE], ["Fargate has no GPU"]),
    ("Fargate: disk", request(disk=200), [FARGATE], None),
    ("Fargate: too much disk", request(disk=201), [FARGATE], ["the largest disk that fits is 200 GiB"]),
    ("Fargate SPOT has the same sizes", request(1, 4097), [Environment("f", "FARGATE_SPOT", 8)], ["5120 MiB"]),
    ("every environment is named", request(memory=999999), [INSTANCES, FARGATE],
     ["ec2 (EC2): ", "; fargate (FARGATE): "]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "environments", "said"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_misfit(asked, environments, said):
    sentence = misfit(asked, environments)
    if said is None:
        assert sentence is None
    else:
        assert sentence is not None
        assert [part for part in said if part not in sentence] == []


@pytest.mark.parametrize(("installed", "percent", "left"), [(8192, 5, 7750), (8192, 0, 8160), (1024, 5, 940)])
def test_memory_for_jobs(installed, percent, left):
    assert memory_for_jobs(installed, percent) == left
