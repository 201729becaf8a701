# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From chains of flows as data to state machines in Amazon States Language: plain functions of their arguments.

A chain's data while it runs is ``{"parameters": {name: text}, "results": {step: {"Status": …}}}``. Each step's result
is there from the start, as NOT_RUN, so that a choice may look at a step that was passed over, and a parallel's branches
can be put together again without knowing which of them ran what.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

from ansible_collections.mlops.metaflow.plugins.module_utils.flow_parameters import text, texts

START_EXECUTION = "states:::states:startExecution.sync:2"

#: How an item's kind is told: exactly one of these keys is in it.
KINDS = ("flow", "parallel", "choice")


@dataclass(frozen=True)
class Place:
    """Where the state machines of flows are: ARNs follow from names."""

    partition: str
    region: str
    account: str
    #: how the names of flows' state machines begin
    prefix: str

    def machine(self, flow):
        """Return the ARN of a flow's state machine; an ARN stays as it is."""
        if flow.startswith("arn:"):
            return flow
        return f"arn:{self.partition}:states:{self.region}:{self.account}:stateMachine:{self.prefix}_{flow}"


def flow_input(parameters):
    """Return the input, as a map, by which a flow's execution gets values of its parameters."""
    return {"Parameters": json.dumps(texts(parameters), sort_keys=True)}


def step_name(item):
    """Return the name of an item that is a flow: its own, or the name of the flow's class."""
    if item.get("step"):
        return item["step"]
    name = item["flow"].rpartition(":")[2]
    if name != item["flow"]:  # of an ARN: the name of a state machine is <prefix>_<project>.<branch>.<class>
        name = name.partition("_")[2] or name
    return name.rpartition(".")[2]


def flows_of(items):
    """Yield all items that are flows, whatever they are in."""
    for item in items:
        if "flow" in item:
            yield item
        for inner in lists_in(item):
            yield from flows_of(inner)


def lists_in(item):
    """Return the lists of items inside an item."""
    if "parallel" in item:
        return [branch if isinstance(branch, list) else [branch] for branch in item["parallel"]]
    if "choice" in item:
        return [item["choice"].get("then") or [], item["choice"].get("otherwise") or []]
    return []


def equals(choice):
    """Return the values of which a choice wants any one."""
    wanted = choice.get("equals", "SUCCEEDED")
    return wanted if isinstance(wanted, list) else [wanted]


def machines(chain, place):
    """Return the ARNs, sorted, of the state machines that a chain starts."""
    used = set()
    for item in flows_of(chain["steps"]):
        used.add(place.machine(item["flow"]))
        if _handler(item):
            used.add(place.machine(_handler(item)))
    return sorted(used)


def _handler(item):
    """Return the flow that runs when an item fails, or None."""
    reaction = item.get("on_failure") or "stop"
    return None if reaction in ("stop", "continue") else reaction


def definition(chain, place):
    """Return the definition of a chain's state machine."""
    compiler = _Compiler(place, sorted(step_name(item) for item in flows_of(chain["steps"])))
    start = compiler.sequence(chain["steps"], None)
    results = {step: {"Status": "NOT_RUN"} for step in compiler.steps}
    parameters = texts(chain.get("parameters") or {})
    machine = {
        "Comment": f"Chain {chain['name']} of {place.prefix}",
        "StartAt": "Defaults",
        "States": {
            "Defaults": {
                "Type": "Pass",
                "Result": {"parameters": parameters, "results": results},
                "Next": "Parameters",
            },
            # What the execution is started with comes before the defaults.
            "Parameters": {
                "Type": "Pass",
                "Parameters": {
                    "parameters.$": "States.JsonMerge($.parameters, $$.Execution.Input, false)",
                    "results.$": "$.results",
                },
                "Next": start,
            },
            **compiler.states,
        },
    }
    if chain.get("timeout"):
        machine["TimeoutSeconds"] = int(chain["timeout"])
    return machine


@dataclass
class _Compiler:
    """Makes the states of one scope (the chain, or a branch of a parallel): a transition can't leave its scope.

    :param steps: the names of all steps of the chain, sorted.
    :param counter: how many parallels and choices there are so far in the chain, in which names of states are unique.
    """

    place: Place
    steps: list
    counter: Counter = field(default_factory=Counter)
    states: dict = field(default_factory=dict)

    def sequence(self, items, following):
        """Add the states of ``items``; return the name of the first. None follows the last of a scope."""
        for item in reversed(items):
            kind = next(kind for kind in KINDS if kind in item)
            following = getattr(self, f"_{kind}")(item, following)
        return following

    def _flow(self, item, following):
        name, arguments = step_name(item), item.get("parameters") or {}
        given = {"AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID.$": "$$.Execution.Id"}
        refers = any(isinstance(value, dict) for value in arguments.values())
        given |= {"Parameters.$": "States.JsonToString($.arguments)"} if refers else flow_input(arguments)
        self.states[name] = {
            **self._task(item["flow"], given, f"$.results.{name}"),
            "ResultSelector": {"Status.$": "$.Status", "ExecutionArn.$": "$.ExecutionArn"},
            "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": f"{name} failed"}],
            **_then(following),
        }
        if item.get("retry"):
            self.states[name]["Retry"] = [_retry(item["retry"])]
        if item.get("timeout"):
            self.states[name]["TimeoutSeconds"] = int(item["timeout"])
        self._failed(item, name, following)
        if not refers:
            return name
        self.states[f"{name} parameters"] = {
            "Type": "Pass",
            "Parameters": dict(_argument(key, value) for key, value in sorted(arguments.items())),
            "ResultPath": "$.arguments",
            "Next": name,
        }
        return f"{name} parameters"

    def _task(self, flow, given, result_path):
        return {
            "Type": "Task",
            "Resource": f"arn:{self.place.partition}:{START_EXECUTION}",
            "Parameters": {"StateMachineArn": self.place.machine(flow), "Input": given},
            "ResultPath": result_path,
        }

    def _failed(self, item, name, following):
        """Add what happens when a step has failed for good."""
        if item.get("on_failure") == "continue":
            self.states[f"{name} failed"] = {
                "Type": "Pass",
                "Result": {"Status": "FAILED"},
                "ResultPath": f"$.results.{name}",
                **_then(following),
            }
            return
        machine = self.place.machine(item["flow"]).rpartition(":")[2]
        failure = f"{name} failed"
        if _handler(item):
            # Whether the handler succeeds or not, it is the step's failure that the chain ends with.
            failure = f"{name} has failed"
            self.states[f"{name} failed"] = {
                **self._task(_handler(item), flow_input({}), "$.handled"),
                "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.handled", "Next": failure}],
                "Next": failure,
            }
        self.states[failure] = {
            "Type": "Fail",
            "Error": "StepFailed",
            "CausePath": f"States.Format('The step {name} ({machine}) failed with {{}}.', $.failure.Error)",
        }

    def _parallel(self, item, following):
        name = self._numbered("Parallel")
        branches, whose = [], {}
        for index, items in enumerate(lists_in(item)):
            branch = _Compiler(self.place, self.steps, self.counter)
            start = branch.sequence(items, None)
            branches.append({"StartAt": start, "States": branch.states})
            whose |= {step_name(flow): index for flow in flows_of(items)}
        self.states[name] = {
            "Type": "Parallel",
            "Branches": branches,
            # A branch knows all results until it began, and then its own.
            "ResultSelector": {f"{step}.$": f"$[{whose.get(step, 0)}].results.{step}" for step in self.steps},
            "ResultPath": "$.results",
            **_then(following),
        }
        return name

    def _choice(self, item, following):
        name, choice = self._numbered("Choice"), item["choice"]
        if following is None:
            following = f"{name} made"
            self.states[following] = {"Type": "Pass", "End": True}
        if "parameter" in choice:
            variable = f"$.parameters.{choice['parameter']}"
        else:
            variable = f"$.results.{choice['result']}.Status"
        then = self.sequence(choice["then"], following)
        self.states[name] = {
            "Type": "Choice",
            "Choices": [{"Variable": variable, "StringEquals": text(value), "Next": then} for value in equals(choice)],
            "Default": self.sequence(choice.get("otherwise") or [], following),
        }
        return name

    def _numbered(self, kind):
        self.counter[kind] += 1
        return f"{kind} {self.counter[kind]}"


def _then(following):
    return {"Next": following} if following else {"End": True}


def _argument(key, value):
    """Return a flow's parameter as a member of a Pass state's Parameters."""
    return (f"{key}.$", f"$.parameters.{value['parameter']}") if isinstance(value, dict) else (key, text(value))


def _retry(retry):
    return {
        "ErrorEquals": ["States.ALL"],
        "MaxAttempts": int(retry.get("max_attempts", 1)),
        "IntervalSeconds": int(retry.get("interval", 60)),
        "BackoffRate": float(retry.get("backoff", 2)),
    }


def status_pattern(machine, statuses):
    """Return the event pattern for executions of a state machine that have come to one of the statuses.

    :param machine: an ARN, or ``{"prefix": beginning of an ARN}``.
    """
    return {
        "source": ["aws.states"],
        "detail-type": ["Step Functions Execution Status Change"],
        "detail": {"status": list(statuses), "stateMachineArn": [machine]},
    }


def statements(used, place):
    """Return the statements of the policy by which a chain starts the state machines ``used`` and awaits them.

    Step Functions hears of their ends by a rule of its own, and ends them when the chain is ended:
    https://docs.aws.amazon.com/step-functions/latest/dg/connect-stepfunctions.html
    """
    executions = [arn.replace(":stateMachine:", ":execution:") + ":*" for arn in used]
    rule = "rule/StepFunctionsGetEventsForStepFunctionsExecutionRule"
    return [
        {"Sid": "StartFlows", "Effect": "Allow", "Action": ["states:StartExecution"], "Resource": used},
        {
            "Sid": "AwaitAndEndFlows",
            "Effect": "Allow",
            "Action": ["states:DescribeExecution", "states:StopExecution"],
            "Resource": executions,
        },
        {
            "Sid": "HearOfEndedFlows",
            "Effect": "Allow",
            "Action": ["events:DescribeRule", "events:PutRule", "events:PutTargets"],
            "Resource": [f"arn:{place.partition}:events:{place.region}:{place.account}:{rule}"],
        },
        {
            "Sid": "DeliverLogs",
            "Effect": "Allow",
            "Action": [
                "logs:CreateLogDelivery",
                "logs:DeleteLogDelivery",
                "logs:DescribeLogGroups",
                "logs:DescribeResourcePolicies",
                "logs:GetLogDelivery",
                "logs:ListLogDeliveries",
                "logs:PutResourcePolicy",
                "logs:UpdateLogDelivery",
            ],
            "Resource": ["*"],  # CloudWatch Logs' delivery actions know no resources
        },
    ]


def execution_url(console, region, execution):
    """Return the address of an execution's page, with the steps and their logs."""
    return f"{console}/states/home?region={region}#/v2/executions/details/{execution}"


def notice_definition(channels, place, console):
    """Return the definition of the state machine that tells of a chain that failed, as EventBridge starts it.

    EventBridge itself can publish to a topic only if the topic's own policy says so; a state machine's role is enough.

    :param dict channels: who is told: ``{"topic_arn": ARN, "webhook": {"url": …, "connection_arn": …}}``, each left out
        or None for none.
    :param str console: how the address of AWS's console begins: "https://eu-west-1.console.aws.amazon.com".
    """
    machine = "States.ArrayGetItem(States.StringSplit($.detail.stateMachineArn, ':'), 6)"
    url = f"States.Format('{execution_url(console, place.region, '{}')}', $.detail.executionArn)"

    def message(middle, *values):
        text = (
            f"States.Format('{{}}: {{}}.{middle} Log: {{}}', {', '.join([machine, '$.detail.status', *values, url])})"
        )
        return {
            "Type": "Pass",
            "Parameters": {
                "message.$": text,
                "subject.$": f"States.Format('{{}}: {{}}', {machine}, $.detail.status)",
                "status.$": "$.detail.status",
                "execution.$": "$.detail.executionArn",
                "log.$": url,
            },
            "Next": "Tell",
        }

    named = {"Variable": "$.detail.cause", "IsPresent": True}, {"Variable": "$.detail.cause", "IsString": True}
    return {
        "Comment": f"Tells of chains of {place.prefix} that failed",
        "StartAt": "Is the step named",
        "States": {
            # An execution that was ended from outside, or by its timeout, has no cause.
            "Is the step named": {
                "Type": "Choice",
                "Choices": [{"And": list(named), "Next": "With the step"}],
                "Default": "Without the step",
            },
            "With the step": message(" {}", "$.detail.cause"),
            "Without the step": message(""),
            "Tell": {"Type": "Parallel", "Branches": list(_branches(channels, place)), "End": True},
        },
    }


def _branches(channels, place):
    """Yield a branch for each channel. One that fails is tried again, in which time the other one has told."""
    tasks = {}
    if channels.get("topic_arn"):
        arguments = {"TopicArn": channels["topic_arn"], "Message.$": "$.message", "Subject.$": "$.subject"}
        tasks["Publish"] = {"Resource": f"arn:{place.partition}:states:::sns:publish", "Parameters": arguments}
    if channels.get("webhook"):
        arguments = {
            "ApiEndpoint": channels["webhook"]["url"],
            "Method": "POST",
            "Authentication": {"ConnectionArn": channels["webhook"]["connection_arn"]},
            # Chat systems show the text; programs read the rest.
            "RequestBody": {
                "text.$": "$.message",
                "subject.$": "$.subject",
                "status.$": "$.status",
                "execution.$": "$.execution",
                "log.$": "$.log",
            },
        }
        tasks["Call"] = {"Resource": f"arn:{place.partition}:states:::http:invoke", "Parameters": arguments}
    retry = [{"ErrorEquals": ["States.ALL"], "MaxAttempts": 4, "IntervalSeconds": 2, "BackoffRate": 4}]
    for name, task in tasks.items():
        yield {"StartAt": name, "States": {name: {"Type": "Task", **task, "Retry": retry, "End": True}}}


def notice_statements(channels, machine_arn, place):
    """Return the statements of the policy by which that state machine, of the ARN ``machine_arn``, tells the channels.

    What a call of a webhook needs: https://docs.aws.amazon.com/step-functions/latest/dg/call-https-apis.html
    """
    statements = []
    if channels.get("topic_arn"):
        publish = {"Effect": "Allow", "Action": ["sns:Publish"], "Resource": channels["topic_arn"]}
        statements.append({"Sid": "Publish", **publish})
    if channels.get("webhook"):
        asked = {"states:HTTPMethod": "POST", "states:HTTPEndpoint": channels["webhook"]["url"]}
        connection = channels["webhook"]["connection_arn"]
        name = connection.split("/")[1]
        here = f"arn:{place.partition}:secretsmanager:{place.region}:{place.account}"
        statements += [
            {
                "Sid": "CallTheWebhook",
                "Effect": "Allow",
                "Action": ["states:InvokeHTTPEndpoint"],
                "Resource": machine_arn,
                "Condition": {"StringEquals": asked},
            },
            {
                "Sid": "UseItsConnection",
                "Effect": "Allow",
                "Action": ["events:RetrieveConnectionCredentials"],
                "Resource": connection,
            },
            {
                "Sid": "ReadItsKey",
                "Effect": "Allow",
                "Action": ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"],
                "Resource": f"{here}:secret:events!connection/{name}/*",
            },
        ]
    return statements
