# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A usage plan with its API keys, for the module api_gateway_usage_plan.

UpdateUsagePlan is allowed once in 20 seconds, so all changes of a plan go into one call. Values of keys are never asked
for, and what AWS tells unasked (CreateApiKey, GetUsagePlanKeys) is dropped where it arrives.
"""

from __future__ import annotations

from ansible_collections.mlops.metaflow.plugins.module_utils import diff
from ansible_collections.mlops.metaflow.plugins.module_utils.api_gateway import PREDICTED, ApiGatewayResource, patch
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import Failed

OPTIONS = {
    "description": {},
    "throttle": {"type": "dict", "options": {"rate_limit": {"type": "float"}, "burst_limit": {"type": "int"}}},
    "quota": {
        "type": "dict",
        "options": {
            "limit": {"type": "int"},
            "period": {"choices": ["DAY", "WEEK", "MONTH"]},
            "offset": {"type": "int", "default": 0},
        },
        "required_together": [("limit", "period")],
    },
    "api_stages": {
        "type": "list",
        "elements": "dict",
        "options": {
            "api_id": {"required": True},
            "stage": {"required": True},
            "throttle": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"required": True},
                    "method": {"required": True},
                    "rate_limit": {"type": "float", "required": True},
                    "burst_limit": {"type": "int", "required": True},
                },
            },
        },
    },
    "api_keys": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "no_log": False,  # names and whether they are valid; the values are AWS's
        "options": {"name": {"required": True}, "enabled": {"type": "bool", "default": True}},
    },
    "purge_api_keys": {"type": "bool", "default": False, "no_log": False},
}


def declared(params):
    """Return the plan of the module's options; None below a limit means that there is to be none."""
    throttle, quota, stages = params["throttle"], params["quota"], params["api_stages"]
    plan = {"name": params["name"]}
    if params["description"] is not None:
        plan["description"] = params["description"]
    if throttle is not None:
        plan["throttle"] = diff.api_form(throttle) or None
    if quota is not None:
        plan["quota"] = quota if quota["limit"] is not None else None
    if stages is not None:
        plan["apiStages"] = {f"{stage['api_id']}:{stage['stage']}": _method_limits(stage) for stage in stages}
    key = {} if params["tags"] is None else {"tags": params["tags"]}
    plan["apiKeys"] = {
        option["name"]: {"enabled": option["enabled"], "attached": True, **key} for option in params["api_keys"]
    }
    if params["purge_api_keys"]:
        plan["otherKeys"] = []
    if params["tags"] is not None:
        plan["tags"] = params["tags"]
    return plan


def _method_limits(stage):
    return {
        f"{limit['path']}/{limit['method']}": {"rateLimit": limit["rate_limit"], "burstLimit": limit["burst_limit"]}
        for limit in stage["throttle"]
    }


def live_stages(stages):
    """Return ``{"api:stage": {"/path/METHOD": limits}}`` of the stages as AWS shows them."""
    return {
        f"{stage['apiId']}:{stage['stage']}": {
            # The patches that set them spell paths as JSON pointers do, and AWS may show them so.
            method.replace("~1", "/"): limits
            for method, limits in (stage.get("throttle") or {}).items()
        }
        for stage in stages
    }


def api_stages(stages):
    """Return the stages of a plan as CreateUsagePlan takes them."""
    return [
        {"apiId": key.partition(":")[0], "stage": key.partition(":")[2], "throttle": limits}
        for key, limits in stages.items()
    ]


def patches(live, desired, changes):
    """Return the patch operations for what ``changes`` says of the plan itself."""
    found = [patch("replace", ["description"], changes["description"])] if "description" in changes else []
    for limit in ("throttle", "quota"):
        if limit in changes and desired[limit] is None:
            found.append(patch("remove", [limit]))
        elif limit in changes:
            found += [patch("replace", [limit, key], value) for key, value in desired[limit].items()]
    if "apiStages" in changes:
        found += _stage_patches(live["apiStages"], desired["apiStages"])
    return found


def _stage_patches(live, want):
    """Take out the stages that are not declared so, and put in the declared ones, with their limits."""
    found = [patch("remove", ["apiStages"], key) for key, limits in live.items() if want.get(key) != limits]
    for key, limits in want.items():
        if live.get(key) == limits:
            continue
        found.append(patch("add", ["apiStages"], key))
        for route, limit in limits.items():
            place = ["apiStages", key, "throttle", *route.rsplit("/", 1)]
            found += [patch("replace", [*place, name], value) for name, value in limit.items()]
    return found


class UsagePlan(ApiGatewayResource):
    kind = "usage plan"
    result_key = "usage_plan"
    collection = "usageplans"
    verbatim = ("tags", "apiKeys", "apiStages")
    unordered = ("tags", "apiStages")

    def __init__(self, module):
        super().__init__(module)
        #: name -> id of the plan's keys that are not declared
        self.other_keys = {}

    def declare(self):
        names = [key["name"] for key in self.params["api_keys"]]
        if len(names) != len(set(names)):
            raise Failed(f"api_keys has a name twice: {', '.join(names)}.")
        if self.params["purge_tags"]:
            self.unordered += tuple(f"apiKeys.{name}.tags" for name in names)
        return declared(self.params)

    def read(self):
        plan = self._find()
        attached = self.items("get_usage_plan_keys", usagePlanId=plan["id"]) if plan else []
        attached = {key["id"]: key["name"] for key in attached}
        keys = {option["name"]: self._key(option["name"], attached) for option in self.params["api_keys"]}
        keys = diff.without_none(keys)
        self.other_keys = {name: key_id for key_id, name in attached.items() if name not in keys}
        if plan is None:
            # Keys without a plan are what is left of a deletion that was interrupted; a plan to come adopts them.
            return {"apiKeys": keys} if keys and self.params["state"] == "absent" else None
        stages = live_stages(plan.get("apiStages") or [])
        return {**plan, "apiStages": stages, "apiKeys": keys, "otherKeys": sorted(self.other_keys)}

    def _find(self):
        return self.find(self.items("get_usage_plans"))

    def _key(self, name, attached):
        """Return the key with this name, or None: its id, whether it is enabled and of this plan, its tags."""
        found = self.items("get_api_keys", nameQuery=name, includeValues=False)  # all that begin with the name
        found = self.ours("API key", name, found, rank=lambda key: key["id"] not in attached)
        if not found:
            return None
        key = found[0]
        return {
            "id": key["id"],
            "enabled": key["enabled"],
            "attached": key["id"] in attached,
            "tags": key.get("tags") or {},
        }

    def predict(self, desired):
        keys = {name: {"id": PREDICTED} for name in desired["apiKeys"]}
        return {**super().predict(desired), "apiKeys": keys, "apiStages": {}, "otherKeys": []}

    def create(self, desired):
        arguments = {
            key: desired[key] for key in ("name", "description", "throttle", "quota", "tags") if desired.get(key)
        }
        arguments["apiStages"] = api_stages(desired.get("apiStages", {}))
        plan = self.create_once("create_usage_plan", self._find, **arguments)
        self._converge_keys(plan["id"], self.read()["apiKeys"], desired["apiKeys"])

    def update(self, live, desired, changes):
        operations = patches(live, desired, changes)
        if operations:
            self.client.update_usage_plan(usagePlanId=live["id"], patchOperations=operations)
        self._converge_keys(live["id"], live["apiKeys"], desired["apiKeys"])
        if "otherKeys" in changes:
            self._delete_keys(self.other_keys.values())

    def _converge_keys(self, plan_id, live, desired):
        for name, want in desired.items():
            have = live.get(name) or self._create_key(name, want)
            if have["enabled"] != want["enabled"]:
                operation = patch("replace", ["enabled"], want["enabled"])
                self.client.update_api_key(apiKey=have["id"], patchOperations=[operation])
            self._tag_key(have, want)
            if not have["attached"]:
                self.client.create_usage_plan_key(usagePlanId=plan_id, keyId=have["id"], keyType="API_KEY")

    def _create_key(self, name, want):
        """Create a key whose id is not its value, and return it as :meth:`_key` does."""
        key = self.create_once(
            "create_api_key",
            lambda: self._key(name, attached=()),
            name=name,
            enabled=want["enabled"],
            generateDistinctId=True,
            tags=want.get("tags", {}),
        )
        return {"id": key["id"], **want, "attached": False}

    def _tag_key(self, have, want):
        to_set, to_unset = diff.tag_changes(want.get("tags"), have.get("tags"), self.params["purge_tags"])
        arn = self.arn(have["id"]).replace(f"/{self.collection}/", "/apikeys/")
        if to_unset:
            self.client.untag_resource(resourceArn=arn, tagKeys=to_unset)
        if to_set:
            self.client.tag_resource(resourceArn=arn, tags=to_set)

    def _delete_keys(self, ids):
        for key_id in ids:
            self.client.delete_api_key(apiKey=key_id)

    def delete(self, live):
        """Delete the keys first: without its plan a key would not be found as one of the plan's any more."""
        self._delete_keys(key["id"] for key in live["apiKeys"].values())
        if self.params["purge_api_keys"]:
            self._delete_keys(self.other_keys.values())
        for plan in self.found:
            stages = live_stages(plan.get("apiStages") or [])
            if stages:  # with stages AWS refuses
                self.client.update_usage_plan(usagePlanId=plan["id"], patchOperations=_stage_patches(stages, {}))
            self.client.delete_usage_plan(usagePlanId=plan["id"])
