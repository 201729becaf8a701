# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Brings the flows of a list and those of the account together: plan all, check all, then change; see metaflow_flow."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    import botocore.exceptions

from ansible_collections.mlops.metaflow.plugins.module_utils import discovery, job_fit, metaflow_config
from ansible_collections.mlops.metaflow.plugins.module_utils import flow_deployment as deployment
from ansible_collections.mlops.metaflow.plugins.module_utils.diff import without_none
from ansible_collections.mlops.metaflow.plugins.module_utils.flow_parameters import value_problems
from ansible_collections.mlops.metaflow.plugins.module_utils.flow_source import SUFFIXES, Source, lines
from ansible_collections.mlops.metaflow.plugins.module_utils.live_flows import Account, Machine
from ansible_collections.mlops.metaflow.plugins.module_utils.metaflow_command import CommandError, Metaflow
from ansible_collections.mlops.metaflow.plugins.module_utils.rehearsal import Rehearsal
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import concurrently


@dataclass
class Plan:
    """What is to be done with a flow of the list."""

    item: dict
    fingerprint: str
    current: Machine | None
    reason: str | None = None
    rehearsal: Rehearsal | None = None

    @property
    def name(self):
        """The state machine's name."""
        return self.rehearsal.name if self.rehearsal else self.current.name

    @property
    def requests(self):
        """What the steps ask for."""
        definition = self.rehearsal.definition if self.rehearsal else self.current.definition
        disks = self.rehearsal.disks if self.rehearsal else {}
        return deployment.requests(self.item["name"], definition, disks)


class Flows:
    """The flows of the list against those of the account."""

    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.account = Account(discovery.client_factory(module))
        self.source = Source(Path(self.params["source"] or "/").resolve())
        self.metaflow = Metaflow(
            python=self.params["metaflow_python"],
            home=self.params["home"],
            profile=self.params["metaflow_profile"],
            owner=self.params["owner"],
            timeout=self.params["timeout"],
            aws={"AWS_DEFAULT_REGION": module.region}
            | ({"AWS_PROFILE": self.params["profile"]} if self.params["profile"] else {}),
        )
        self.unrehearsed = []
        self.wanted = [item for item in self.params["flows"] if item["state"] == "present"]

    def run(self):
        """Converge, and end the module."""
        self.refuse_bad_items()
        config_path = Path(metaflow_config.path_of(self.params["home"], self.params["metaflow_profile"]))
        if self.wanted and self.module.check_mode and not config_path.exists():
            self.exit_unplanned(config_path)
        self.config = metaflow_config.parse(config_path.read_bytes(), config_path) if self.wanted else {}
        read = concurrently({
            "machines": partial(self.account.machines, self.params["prefix"] + "_"),
            "queues": partial(self.account.queues, self.params["reserved_memory_percent"]) if self.wanted else dict,
        })  # fmt: skip
        self.machines, self.queues = read["machines"], read["queues"]
        self.ours = [m for m in self.machines.values() if deployment.is_marked(m.tags, self.params["tags"])]
        self.platforms = {queue: listed[0].type for queue, listed in self.queues.items() if listed}
        plans = self.plan()
        leaving, kept = self.leftovers(plans)
        changing = [plan for plan in plans if plan.reason]
        diffs = self.differences(changing, leaving)
        if not self.module.check_mode:
            self.in_parallel("deploy", self.deploy, changing)
            for machine in leaving:
                self.remove(machine)
        results = [self.result(plan) for plan in plans]
        results += [self.shown(machine, "retired") for machine in leaving]
        results += [self.shown(machine, "kept") for machine in kept]
        results += [{"name": name, "outcome": "deployed", "reason": "not rehearsed"} for name in self.unrehearsed]
        named = {result["name"] for result in results}
        results += [
            {"name": item["name"], "outcome": "absent"} for item in self.params["flows"] if item["name"] not in named
        ]
        self.module.exit_json(
            changed=bool(changing or leaving or self.unrehearsed), flows=results, **({"diff": diffs} if diffs else {})
        )

    # Before anything is done

    def refuse_bad_items(self):
        """Fail with all that is wrong with the list."""
        missing = [name for name in ("source", "owner", "metaflow_python") if self.wanted and not self.params[name]]
        problems = [f"{name} is missing" for name in missing]
        names = [item["name"] for item in self.params["flows"]]
        problems += [f"two flows are called '{name}'" for name in sorted({n for n in names if names.count(n) > 1})]
        for item in self.wanted:
            path = (self.source.root / item["file"]).resolve() if item["file"] else None
            if path is None:
                problems.append(f"{item['name']}: file is missing")
            elif not path.is_relative_to(self.source.root) or not path.is_file():
                problems.append(f"{item['name']}: there is no file '{item['file']}' in {self.source.root}")
            problems += [f"{item['name']}: {problem}" for problem in value_problems(item["parameters"])]
        if problems:
            self.module.fail_json(msg=f"The list of flows is not sound, nothing was deployed: {'; '.join(problems)}.")

    def exit_unplanned(self, config_path):
        """End check mode where the client's configuration, which this very run would write, is not there yet."""
        self.module.exit_json(
            changed=True,
            msg=f"{config_path} does not exist yet, so the deployments can't be rehearsed.",
            flows=[{"name": item["name"], "outcome": "deployed", "reason": "new"} for item in self.wanted],
        )

    def plan(self):
        """Return the :class:`Plan` of each flow that is to be present; fail if one can't be deployed or doesn't fit."""
        if not self.wanted:
            return []
        configured = self.config.get("METAFLOW_DEFAULT_PACKAGE_SUFFIXES")
        self.source.suffixes = tuple(configured.split(",")) if configured else SUFFIXES
        try:
            versions = self.metaflow.versions()
        except CommandError as error:
            self.module.fail_json(msg=f"Metaflow is not installed for {self.metaflow.python}: {error}")
        planned = self.in_parallel("rehearse the deployment of", partial(self.plan_one, versions), self.wanted)
        plans = [plan for plan in planned if plan]
        names = [plan.name for plan in plans]
        problems = [
            f"{' and '.join(plan.item['name'] for plan in plans if plan.name == name)} are one state machine, {name}."
            for name in sorted({name for name in names if names.count(name) > 1})
        ]
        problems += [problem for plan in plans for problem in self.item_problems(plan)]
        problems += [
            problem
            for plan in plans
            for request in plan.requests
            if (problem := job_fit.misfit(request, self.queues.get(request.queue, [])))
        ]
        if problems:
            self.module.fail_json(msg="Nothing was deployed. " + "\n".join(problems))
        return plans

    def plan_one(self, versions, item):
        """Return the :class:`Plan` of a flow, or None where check mode can't tell."""
        fingerprint = deployment.digest({
            "files": self.source.digests(item["file"]),
            "arguments": deployment.arguments(item),
            "schedule": [item["schedule"], item["parameters"]],
            "config": self.config,
            "versions": versions,
            "owner": self.params["owner"],
        })  # fmt: skip
        same = [
            machine
            for machine in self.ours
            if (machine.tags[deployment.TAG_FLOW], machine.tags.get(deployment.TAG_SOURCE))
            == (item["name"], fingerprint)
        ]
        for machine in same:
            if machine.tags.get(deployment.TAG_DEPLOYED) == machine.digest(self.platforms):
                return Plan(item, fingerprint, machine)
        try:
            calls = self.metaflow.rehearse(self.source.root / item["file"], deployment.arguments(item))
            rehearsal = Rehearsal.of(calls)
        except CommandError as error:
            if not self.module.check_mode:
                raise
            # An earlier component of the same run may be about to make or mend what is missing here.
            self.module.warn(f"The deployment of the flow '{item['name']}' can't be rehearsed: {error}")
            self.unrehearsed.append(item["name"])
            return None
        current = self.machines.get(rehearsal.name)
        reason = "new" if current is None else "changed in the account" if current in same else "changed"
        return Plan(item, fingerprint, current, reason, rehearsal)

    @staticmethod
    def item_problems(plan):
        """Yield what the list says of a flow and its code doesn't."""
        item, rehearsal = plan.item, plan.rehearsal
        project = (item["project"] or {}).get("name")
        if rehearsal and project and f"{project}." not in plan.name:
            yield f"{item['name']}: {item['file']} has no @project(name='{project}')."
        unknown = sorted(set(item["parameters"]) - set(rehearsal.parameters)) if rehearsal else []
        if unknown:
            has = ", ".join(rehearsal.parameters) or "none"
            yield f"{item['name']}: {item['file']} has no parameter {', '.join(unknown)}; it has: {has}."

    def leftovers(self, plans):
        """Return the deployed flows that are to go, and those that stay although the list doesn't have them."""
        current = {plan.name for plan in plans}
        current |= {machine.name for machine in self.ours if machine.tags[deployment.TAG_FLOW] in self.unrehearsed}
        gone = {item["name"] for item in self.params["flows"] if item["state"] == "absent"}
        left = [machine for machine in self.ours if machine.name not in current]
        leaving = [m for m in left if self.params["retire"] or m.tags[deployment.TAG_FLOW] in gone]
        kept = [machine for machine in left if machine not in leaving]
        for machine in kept:
            self.module.warn(
                f"The flow '{machine.tags[deployment.TAG_FLOW]}' (state machine {machine.name}) is deployed and "
                "not in the list. It is kept, and so is its schedule; 'state: absent' in the list removes it."
            )
        return leaving, kept

    # What changes

    def deploy(self, plan):
        """Deploy a flow, set its schedule, and mark the state machine with what it was made of."""
        self.metaflow.deploy(self.source.root / plan.item["file"], deployment.arguments(plan.item))
        arn = self.arn(plan)
        self.set_schedule(plan, arn)
        live = self.account.machine(arn)
        tags = self.params["tags"] | {
            deployment.TAG_FLOW: plan.item["name"],
            deployment.TAG_SOURCE: plan.fingerprint,
            deployment.TAG_DEPLOYED: live.digest(self.platforms),
            **deployment.parameter_tags(plan.rehearsal.parameters),
        }
        self.account.client("stepfunctions").tag_resource(
            resourceArn=arn, tags=[{"key": key, "value": str(value)} for key, value in tags.items()]
        )
        plan.current = live

    def set_schedule(self, plan, arn):
        """Make the rule as Metaflow makes it, where the list says more than the code does."""
        wanted = self.wanted_rule(plan, arn)
        if plan.item["schedule"] is None and not (wanted and plan.item["parameters"]):
            return
        name = deployment.rule_name(plan.name)
        if plan.item["schedule"] == "none":
            self.remove_rule(name)
            return
        events = self.account.client("events")
        events.put_rule(
            Name=name,
            ScheduleExpression=wanted["expression"],
            State=wanted["state"],
            Description=f"Metaflow generated rule for {name}",
        )
        answer = events.put_targets(Rule=name, Targets=[{"Id": name, **target} for target in wanted["targets"]])
        if answer.get("FailedEntryCount"):
            raise CommandError(f"EventBridge refused the target of rule {name}: {answer['FailedEntries']}")

    def wanted_rule(self, plan, arn):
        """Return the rule as it will be, in :func:`flow_deployment.rule_view`'s form."""
        given, live = plan.item["schedule"], plan.current and plan.current.rule
        expression = plan.rehearsal.schedule if given is None else None if given == "none" else f"cron({given})"
        if expression is None:
            # Metaflow disables the rule of a flow that has no schedule any more.
            return {**live, "state": "DISABLED"} if live and given is None else None
        role = self.config.get("METAFLOW_EVENTS_SFN_ACCESS_IAM_ROLE")
        target = {"Arn": arn, "RoleArn": role, "Input": deployment.execution_input(plan.item["parameters"])}
        return {"expression": expression, "state": "ENABLED", "targets": [target]}

    def remove(self, machine):
        """Remove a state machine and its rule, as ``step-functions delete`` does; the flow's file may be gone."""
        self.remove_rule(deployment.rule_name(machine.name))
        self.account.client("stepfunctions").delete_state_machine(stateMachineArn=machine.arn)

    def remove_rule(self, name):
        """Remove a rule with its targets, if it is there."""
        events = self.account.client("events")
        with discovery.absent_when("ResourceNotFoundException"):
            targets = [target["Id"] for target in events.list_targets_by_rule(Rule=name)["Targets"]]
            if targets:
                events.remove_targets(Rule=name, Ids=targets)
            events.delete_rule(Name=name)

    def arn(self, plan):
        """Return the state machine's ARN; its role is in the same account."""
        _, partition, _, _, account, _ = plan.rehearsal.role.split(":", 5)
        return f"arn:{partition}:states:{self.module.region}:{account}:stateMachine:{plan.name}"

    # What is shown

    def differences(self, plans, leaving):
        """Return the diff of each flow that changes or goes."""
        if not self.module._diff:
            return []
        return self.in_parallel("compare", self.difference, plans) + [self.removal(machine) for machine in leaving]

    def difference(self, plan):
        """Return the diff of one flow: a new one in outline, of a live one what differs."""
        planned, current = plan.rehearsal, plan.current
        job_definitions = planned.job_definitions | self.account.job_definitions(planned.definition)
        after = self.frame(planned, self.wanted_rule(plan, self.arn(plan)))
        if current is None:
            after["states"] = deployment.outline(planned.definition, job_definitions)
            return self.shown_diff(plan.item["name"], plan.name, {}, after)
        commands = self.account.commands(planned.definition, planned.commands)
        after["states"] = deployment.summary(planned.definition, commands, job_definitions)
        after["files"] = self.source.texts(plan.item["file"])
        before = self.frame(current, current.rule)
        before["states"] = deployment.summary(
            current.definition,
            self.account.commands(current.definition),
            self.account.job_definitions(current.definition),
        )
        packaged = self.account.code(current.definition)
        before["files"] = {name: lines(packaged[name]) for name in after["files"] if name in packaged}
        return self.shown_diff(plan.item["name"], plan.name, *deployment.differing(before, after))

    def removal(self, machine):
        before = self.frame(machine, machine.rule)
        before["states"] = deployment.outline(machine.definition, self.account.job_definitions(machine.definition))
        return self.shown_diff(machine.tags[deployment.TAG_FLOW], machine.name, before, {})

    @staticmethod
    def frame(machine, rule):
        """Return what stands around the states of a live or planned state machine."""
        return {
            "role": machine.role,
            "logging": machine.logging,
            "workflow_timeout": machine.definition.get("TimeoutSeconds"),
            "schedule": rule,
        }

    @staticmethod
    def shown_diff(flow, machine, before, after):
        header = f"{flow} (state machine {machine})"
        return {
            "before_header": header,
            "after_header": header,
            "before": without_none(before),
            "after": without_none(after),
        }

    def result(self, plan):
        definition = plan.rehearsal.definition if plan.rehearsal else plan.current.definition
        return {
            "name": plan.item["name"],
            "outcome": "deployed" if plan.reason else "unchanged",
            "reason": plan.reason or "",
            "flow_name": deployment.flow_name(definition),
            "state_machine_name": plan.name,
            "state_machine_arn": self.arn(plan) if plan.rehearsal else plan.current.arn,
        }

    @staticmethod
    def shown(machine, outcome):
        return {
            "name": machine.tags[deployment.TAG_FLOW],
            "outcome": outcome,
            "reason": "",
            "flow_name": deployment.flow_name(machine.definition),
            "state_machine_name": machine.name,
            "state_machine_arn": machine.arn,
        }

    def in_parallel(self, verb, act, items):
        """Return what ``act`` returns for each item; fail at the end with all that went wrong."""
        results, problems = [], []
        with ThreadPoolExecutor(max_workers=self.params["forks"]) as pool:
            futures = [pool.submit(act, item) for item in items]
        for future, item in zip(futures, items, strict=True):
            try:
                results.append(future.result())
            except (CommandError, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
                name = item.item["name"] if isinstance(item, Plan) else item["name"]
                problems.append(f"Failed to {verb} the flow '{name}': {error}")
        if problems:
            self.module.fail_json(msg="\n".join(problems))
        return results
