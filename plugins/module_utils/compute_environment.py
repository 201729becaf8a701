# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What AWS Batch can change in a compute environment that exists. The pure part of batch_compute_environment.

From the user guide's "Updating compute environments" and the API reference of UpdateComputeEnvironment.
"""

from __future__ import annotations

from ansible_collections.mlops.metaflow.plugins.module_utils.diff import option_name

#: What means something to Fargate, and, except for the type, what can be changed there.
FARGATE_KEYS = {"type", "maxvCpus", "subnets", "securityGroupIds"}
#: Changed by adding or removing instances; everything else replaces them (an "infrastructure update").
SCALING_KEYS = {"minvCpus", "maxvCpus"}
#: Not part of UpdateComputeEnvironment.
FIXED_KEYS = {"spotIamFleetRole"}

STRATEGIES = [
    "BEST_FIT",
    "BEST_FIT_PROGRESSIVE",
    "BEST_FIT_PROGRESSIVE_ORDERED",
    "SPOT_CAPACITY_OPTIMIZED",
    "SPOT_CAPACITY_OPTIMIZED_PRIORITIZED",
    "SPOT_PRICE_CAPACITY_OPTIMIZED",
]
#: The strategies by which the order of the instance types counts.
ORDERED_STRATEGIES = ("BEST_FIT_PROGRESSIVE_ORDERED", "SPOT_CAPACITY_OPTIMIZED_PRIORITIZED")
#: What we choose where nobody did: AWS chooses BEST_FIT, which bars infrastructure updates for ever.
CHOSEN_STRATEGY = {"EC2": "BEST_FIT_PROGRESSIVE", "SPOT": "SPOT_PRICE_CAPACITY_OPTIMIZED"}


def is_fargate(resources):
    """Tell whether the compute resources are Fargate's."""
    return resources.get("type", "").startswith("FARGATE")


def is_service_linked(role):
    """Tell whether the role, an ARN, a name or None, is the one that AWS makes for Batch."""
    return not role or role.endswith("AWSServiceRoleForBatch")


def obstacles(live, desired, changes):
    """Return what AWS can't change in place.

    :param dict live: the environment as read.
    :param dict desired: the environment as declared.
    :param dict changes: the part of ``desired`` that ``live`` doesn't show.
    :returns: pairs of the keys that can't change and of the reason; none where AWS can do it all.
    """
    if "type" in changes:
        return [({"type"}, f"of an {live['type']} environment")]
    have, want = live["computeResources"], desired["computeResources"]
    keys = changes.get("computeResources", {}).keys()
    replacing = keys - SCALING_KEYS
    found = []
    linked = is_service_linked(live.get("serviceRole"))
    if "serviceRole" in changes and is_service_linked(changes["serviceRole"]) != linked:
        found.append(({"serviceRole"}, "from the service-linked role to another, or back"))
    if is_fargate(have):
        found.append((keys - FARGATE_KEYS | keys & {"type"}, "of a Fargate environment"))
    elif is_fargate(want):
        found.append(({"type"}, "from instances to Fargate"))
    elif not linked:
        found.append((replacing, "without the service-linked role"))
    elif "BEST_FIT" in (have.get("allocationStrategy", "BEST_FIT"), want.get("allocationStrategy")):
        found.append((replacing, "with the allocation strategy BEST_FIT"))
    else:
        found.append((keys & FIXED_KEYS, "at all"))
    return [(stuck, reason) for stuck, reason in found if stuck]


def option_names(keys):
    """Return the API's keys as the module's options, for messages: "instance_types, minv_cpus"."""
    return ", ".join(sorted(map(option_name, keys)))
