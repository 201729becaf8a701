# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a Batch job fits on any machine of its queue. AWS never says: such a job waits as RUNNABLE for ever."""

from __future__ import annotations

from dataclasses import dataclass

#: Families that Batch takes for its own words (ComputeResource.instanceTypes; "optimal" means the newer ones since
#: November 2025, and environments move to them one by one).
BUNDLES = {
    "optimal": ("c4", "m4", "r4", "c5", "m5", "r5", "m6i", "c6i", "r6i", "c7i"),
    "default_x86_64": ("m6i", "c6i", "r6i", "c7i"),
    "default_arm64": ("m6g", "c6g", "r6g", "c7g"),
}

#: vCPUs of a Fargate task -> the memory sizes in MiB that go with them (AWS Batch, ResourceRequirement).
FARGATE_SIZES = {
    0.25: (512, 1024, 2048),
    0.5: tuple(range(1024, 4096 + 1, 1024)),
    1.0: tuple(range(2048, 8192 + 1, 1024)),
    2.0: tuple(range(4096, 16384 + 1, 1024)),
    4.0: tuple(range(8192, 30720 + 1, 1024)),
    8.0: tuple(range(16384, 61440 + 1, 4096)),
    16.0: tuple(range(32768, 122880 + 1, 8192)),
}

#: GiB: what a Fargate task has, and the least and the most that it may ask for (AWS Batch, EphemeralStorage).
FARGATE_DISK, FARGATE_LEAST_DISK, FARGATE_MOST_DISK = 20, 21, 200

#: MiB that the ECS agent keeps back (ECS_RESERVED_MEMORY of Batch's images).
AGENT_MEMORY = 32

FARGATE = ("FARGATE", "FARGATE_SPOT")


@dataclass(frozen=True)
class Request:
    """What a step asks for: vCPUs, MiB of memory, GPUs, and GiB of disk (None: whatever there is)."""

    flow: str
    step: str
    queue: str
    vcpus: float
    memory: int
    gpus: int = 0
    disk: float | None = None

    def __str__(self):
        disk = f", {self.disk:g} GiB of disk" if self.disk else ""
        return f"{_count(self.vcpus, 'vCPU')}, {self.memory} MiB of memory, {_count(self.gpus, 'GPU')}{disk}"


@dataclass(frozen=True)
class Machine:
    """A kind of instance, with the memory in MiB that is left for jobs."""

    name: str
    vcpus: int
    memory: int
    gpus: int = 0

    def __str__(self):
        gpus = f", {_count(self.gpus, 'GPU')}" if self.gpus else ""
        return f"{self.name} ({_count(self.vcpus, 'vCPU')}, {self.memory} MiB for jobs{gpus})"


@dataclass(frozen=True)
class Environment:
    """A compute environment: its type, most vCPUs, machines (none: Fargate), and GiB of an instance's disk."""

    name: str
    type: str
    max_vcpus: int
    machines: tuple[Machine, ...] = ()
    disk: int | None = None


def memory_for_jobs(installed, reserved_percent):
    """Return the MiB that are left for jobs of the ``installed`` ones.

    The kernel and the hypervisor take a share that no API tells: 2.5 % of an m4.large by AWS's own example, 5 % of an
    m5.xlarge (U).
    """
    return int(installed * (100 - reserved_percent) / 100) - AGENT_MEMORY


def misfit(request, environments):
    """Return a sentence that says why a job fits in none of its queue's environments, or None if it fits in one."""
    reasons = []
    for environment in environments:
        reason = misfit_in(request, environment)
        if reason is None:
            return None
        reasons.append(f"{environment.name} ({environment.type}): {reason}")
    return (
        f"{request.flow}: the step '{request.step}' asks for {request}, and would wait for ever in the queue "
        f"'{request.queue}'. {'; '.join(reasons) or 'The queue has no compute environment'}."
    )


def misfit_in(request, environment):
    """Return why a job doesn't fit in one compute environment, or None if it fits."""
    check = _fargate_misfit if environment.type in FARGATE else _instance_misfit
    return check(request, environment)


def fitting(request, environment):
    """Return the machines of an environment on which a job fits."""
    return [machine for machine in environment.machines if not _lacks(request, machine)]


def _instance_misfit(request, environment):
    if request.vcpus > environment.max_vcpus:
        return f"it may have {_count(environment.max_vcpus, 'vCPU')} in all (maxvCpus)"
    if not fitting(request, environment):
        return f"the largest that comes near is {_nearest(request, environment.machines)}"
    if request.disk and environment.disk and request.disk > environment.disk:
        return f"its instances have {environment.disk} GiB of disk"
    return None


def _lacks(request, machine):
    return [name for name in ("vcpus", "memory", "gpus") if getattr(request, name) > getattr(machine, name)]


def _nearest(request, machines):
    """Return the machine that lacks least of what is asked; among equals the largest."""
    if not machines:
        return "none: it has no instance type in this region"
    return max(
        machines,
        key=lambda machine: (
            -len(_lacks(request, machine)),
            machine.gpus * bool(request.gpus),
            machine.memory,
            machine.vcpus,
        ),
    )


def _fargate_misfit(request, environment):
    if request.gpus:
        return "Fargate has no GPU"
    if request.vcpus > environment.max_vcpus:
        return f"it may have {_count(environment.max_vcpus, 'vCPU')} in all (maxvCpus)"
    most = max(FARGATE_SIZES)
    if request.vcpus > most:
        return f"the largest that fits is {_count(most, 'vCPU')} with {max(FARGATE_SIZES[most])} MiB"
    sizes = FARGATE_SIZES.get(request.vcpus)
    if sizes is None:
        return f"Fargate has {', '.join(f'{size:g}' for size in FARGATE_SIZES)} vCPUs"
    if request.memory not in sizes:
        near = min((size for size in sizes if size >= request.memory), default=sizes[-1])
        word = "the largest that fits is" if request.memory > sizes[-1] else "the next size is"
        return f"with {_count(request.vcpus, 'vCPU')} {word} {near} MiB of memory"
    if request.disk and request.disk > FARGATE_MOST_DISK:
        return f"the largest disk that fits is {FARGATE_MOST_DISK} GiB"
    return None


def _count(number, noun):
    return f"{number:g} {noun}{'' if number == 1 else 's'}"
