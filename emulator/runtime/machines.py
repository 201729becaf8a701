"""What fits where: instance types with their memory less what ECS keeps, and the sizes of Fargate."""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from moto.ec2.models.instance_types import INSTANCE_TYPES

OPTIMAL = ("m4", "c4", "r4")
"""The families that ``optimal`` stands for: https://docs.aws.amazon.com/batch/latest/userguide/instance-type-compute-table.html"""

FARGATE_SIZES: dict[float, Container[int]] = {
    0.25: (512, 1024, 2048),
    0.5: range(1024, 4097, 1024),
    1: range(2048, 8193, 1024),
    2: range(4096, 16385, 1024),
    4: range(8192, 30721, 1024),
    8: range(16384, 61441, 4096),
    16: range(32768, 122881, 8192),
}
"""vCPU → MiB of memory: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-cpu-memory-error.html"""


@dataclass(frozen=True)
class Resources:
    """What a job asks for, or a machine has: vCPU, MiB of memory, GPUs."""

    vcpus: float
    memory: int
    gpus: int = 0

    def fit_into(self, machine: "Resources") -> bool:
        """Whether a job of this size fits on the empty machine."""
        return self.vcpus <= machine.vcpus and self.memory <= machine.memory and self.gpus <= machine.gpus


def fits_fargate(asked: Resources) -> bool:
    """Whether Fargate has exactly this size."""
    return asked.memory in FARGATE_SIZES.get(asked.vcpus, ()) and not asked.gpus


def fits_instances(asked: Resources, types: Iterable[str]) -> bool:
    """Whether one of the instance types (``m5.large``, ``m5``, ``optimal``) can hold a job of this size."""
    return any(asked.fit_into(usable(name)) for name in expand(types))


def expand(types: Iterable[str]) -> Iterator[str]:
    """The instance types that a compute environment's list means."""
    for name in types:
        families = OPTIMAL if name == "optimal" else (name,)
        for family in families:
            if family in INSTANCE_TYPES:
                yield family
            else:
                yield from (known for known in INSTANCE_TYPES if known.startswith(family + "."))


@cache
def usable(instance_type: str) -> Resources:
    """What jobs can use of a machine: its memory less the kernel's and the ECS agent's part.

    That part differs from machine to machine; 256 MiB and 2.5 % is an estimate.
    https://docs.aws.amazon.com/batch/latest/userguide/memory-management.html
    """
    info = INSTANCE_TYPES[instance_type]
    memory = info["MemoryInfo"]["SizeInMiB"]
    gpus = sum(gpu["Count"] for gpu in info.get("GpuInfo", {}).get("Gpus", []))
    return Resources(info["VCpuInfo"]["DefaultVCpus"], int(memory * 0.975 - 256), gpus)
