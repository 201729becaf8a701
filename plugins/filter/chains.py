# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters on the list of chains."""

from __future__ import annotations

import json

from ansible_collections.mlops.metaflow.plugins.module_utils import chain, chain_problems


def compiled_chains(chains, place):
    """Return those of the list that are to be there, with their definitions and without what is left open.

    :param dict place: partition, region, account, and prefix of the flows' state machines.
    """
    where = chain.Place(**place)
    return [
        {
            "name": item["name"],
            "schedule": item.get("schedule") or "",
            "machines": chain.machines(item, where),
            "definition": chain.definition(item, where),
        }
        for item in chains
        if item.get("state", "present") == "present"
    ]


def flow_machine(flow, place):
    """Return the ARN of a flow's state machine."""
    return chain.Place(**place).machine(flow)


def flow_input(parameters):
    """Return the input of a flow's execution as a text."""
    return json.dumps(chain.flow_input(parameters))


def chain_role(compiled, place, prefix, running):
    """Return the role of a compiled chain: what it may do is start the flows that it names, and await them.

    :param dict running: ``{state machine: {"machines": ARNs}}`` that executions which run may still start, because they
        began before a flow was taken out of the chain.
    """
    name = prefix + compiled["name"]
    machines = {*compiled["machines"], *running.get(name, {}).get("machines", [])}
    return {
        "name": name,
        "description": f"The chain {compiled['name']} of {place['prefix']}",
        "service": "states.amazonaws.com",
        "statements": chain.statements(sorted(machines), chain.Place(**place)),
    }


def notice_definition(channels, place, console):
    """Return the definition of the state machine that tells of chains that failed."""
    return chain.notice_definition(channels, chain.Place(**place), console)


def notice_statements(channels, machine_arn, place):
    """Return what that state machine may do."""
    return chain.notice_statements(channels, machine_arn, chain.Place(**place))


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {
            "chain_problems": chain_problems.chain_problems,
            "chain_role": chain_role,
            "compiled_chains": compiled_chains,
            "flow_input": flow_input,
            "flow_machine": flow_machine,
            "notice_definition": notice_definition,
            "notice_statements": notice_statements,
            "status_pattern": chain.status_pattern,
            "trigger_problems": chain_problems.trigger_problems,
        }
