# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A REST API with its routes, its stage and its deployment, for the module api_gateway_rest_api.

Routes are written one by one, not by PutRestApi: that call also overwrites what it isn't told (policy, endpoint, name)
and replaces every resource for one route that differs.
"""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cached_property

with suppress(ImportError):  # AnsibleAWSModule reports a missing SDK
    from botocore.exceptions import ClientError

from ansible_collections.amazon.aws.plugins.module_utils.iam import get_aws_account_info
from ansible_collections.mlops.metaflow.plugins.module_utils import diff
from ansible_collections.mlops.metaflow.plugins.module_utils import rest_api_plan as plan
from ansible_collections.mlops.metaflow.plugins.module_utils.api_gateway import (
    PREDICTED,
    ApiGatewayResource,
    digest,
    normal_policy,
    parsed_policy,
)
from ansible_collections.mlops.metaflow.plugins.module_utils.resource import (
    Failed,
    concurrently,
    error_code,
)


class RestApi(ApiGatewayResource):
    kind = "REST API"
    result_key = "rest_api"
    collection = "restapis"
    unordered = ("tags", "policy", "endpointConfiguration.vpcEndpointIds", "stage.variables")
    verbatim = ("tags", "policy", "routes", "variables")

    def __init__(self, module):
        super().__init__(module)
        #: path -> id of the live resources
        self.resource_ids = {}

    @cached_property
    def account(self):
        """Id of the account."""
        return get_aws_account_info(self.module)[0]

    def declare(self):
        params = self.params
        routes = plan.declared_routes(params["routes"])
        policy = plan.declared_policy(params["policy"])
        desired = {
            "name": self.name,
            "description": params["description"],
            "endpointConfiguration": plan.declared_endpoint(params["endpoint_type"], params["vpc_endpoint_ids"]),
            "securityPolicy": params["security_policy"],
            "endpointAccessMode": params["endpoint_access_mode"],
            "policy": policy,
            "routes": routes,
            "tags": params["tags"],
        }
        if params["stage"]:
            deployed = digest({"routes": routes, "policy": policy and normal_policy(policy)})
            desired["stage"] = plan.declared_stage(params["stage"], deployed, params["tags"])
        self.unordered += ("routes",) if params["purge_routes"] else tuple(f"routes.{key}" for key in routes)
        self.unordered += ("stage.tags",) if params["purge_tags"] else ()
        return {key: value for key, value in desired.items() if value is not None}

    def refine(self, desired, live):
        """Take a live policy for the declared one where both mean the same."""
        if live and "policy" in desired:
            forms = [normal_policy(policy, live["executionArn"]) for policy in (desired["policy"], live["policy"])]
            if forms[0] == forms[1]:
                return {**desired, "policy": live["policy"]}
        return desired

    def read(self):
        api = self._find()
        return api and self._described(api)

    def _find(self):
        return self.find(self.items("get_rest_apis"))

    def _described(self, api):
        """Return the API with all that belongs to it."""
        parts = concurrently(
            {
                "resources": lambda: self.items("get_resources", restApiId=api["id"], embed=["methods"]),
                "stage": lambda: self._read_stage(api["id"]),
            }
        )
        self.resource_ids = {resource["path"]: resource["id"] for resource in parts["resources"]}
        addresses = self._addresses(api["id"])
        return {
            **api,
            **addresses,
            "policy": parsed_policy(api.get("policy"), addresses["executionArn"]),
            "rootResourceId": self.resource_ids["/"],
            "routes": plan.live_routes(parts["resources"]),
            "stage": parts["stage"],
        }

    def _addresses(self, api_id):
        """Return the names by which the API with this id is reached."""
        region, partition = self.module.region, self.client.meta.partition
        suffix = "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com"
        stage = self.params["stage"]
        return {
            "arn": self.arn(api_id),
            "executionArn": f"arn:{partition}:execute-api:{region}:{self.account}:{api_id}",
            "invokeUrl": stage and f"https://{api_id}.execute-api.{region}.{suffix}/{stage['name']}",
        }

    def _read_stage(self, api_id):
        if not self.params["stage"]:
            return None
        try:
            stage = self.client.get_stage(restApiId=api_id, stageName=self.params["stage"]["name"])
        except ClientError as error:
            if error_code(error) == "NotFoundException":
                return None
            raise
        del stage["ResponseMetadata"]
        deployment = self.client.get_deployment(restApiId=api_id, deploymentId=stage["deploymentId"])
        return {**stage, "deployed": deployment.get("description", "")}

    def predict(self, desired):
        return {"id": PREDICTED, **self._addresses(PREDICTED), "rootResourceId": PREDICTED}

    def settled(self, live):
        status = live.get("apiStatus", "AVAILABLE")  # of old APIs AWS shows none
        if status == "FAILED":
            raise Failed(f"AWS could not change it: {live.get('apiStatusMessage')}")
        return status == "AVAILABLE"

    def last_word(self):
        return self.found[0].get("apiStatus", "") if self.found else ""

    def create(self, desired):
        keys = ("name", "description", "endpointConfiguration", "securityPolicy", "endpointAccessMode", "tags")
        arguments = {key: desired[key] for key in keys if key in desired}
        if desired.get("policy"):
            arguments["policy"] = json.dumps(desired["policy"])
        api = self.create_once("create_rest_api", self._find, **arguments)
        self._converge(self._described(api), desired)

    def update(self, live, desired, changes):
        patches = plan.api_patches(live, changes)
        if patches:
            self.client.update_rest_api(restApiId=live["id"], patchOperations=patches)
        self._converge(live, desired)

    def _converge(self, live, desired):
        if self.params["purge_routes"]:
            self._purge(live, desired["routes"])
        for key, route in desired["routes"].items():
            if live["routes"].get(key) != route:
                self._put_route(live, key, route)
        if "stage" in desired:
            self._converge_stage(live["id"], live["stage"] or {}, desired["stage"])

    def _purge(self, live, routes):
        """Remove what is not declared, before the rest is made: of two path variables at one place AWS takes one."""
        for path in plan.stale_resources(self.resource_ids, routes):
            self.client.delete_resource(restApiId=live["id"], resourceId=self.resource_ids.pop(path))
        for key in live["routes"]:
            if key not in routes and plan.path_of(key) in self.resource_ids:
                self.client.delete_method(**self._method(live["id"], key))

    def _method(self, api_id, key):
        """Return the arguments that name the method of a route."""
        verb, path = key.split(" ", 1)
        return {"restApiId": api_id, "resourceId": self.resource_ids[path], "httpMethod": verb}

    def _put_route(self, live, key, route):
        self._ensure_resource(live["id"], plan.path_of(key))
        method = self._method(live["id"], key)
        if key in live["routes"]:
            self.client.delete_method(**method)  # PutMethod doesn't replace; what is deployed stays as it is
        self.client.put_method(
            **method,
            authorizationType=route["authorizationType"],
            apiKeyRequired=route["apiKeyRequired"],
            requestParameters=route["requestParameters"],
        )
        statuses = route["integration"].get("statusCodes", [])
        for status in statuses:
            self.client.put_method_response(**method, statusCode=status)
        self.client.put_integration(**method, **plan.put_integration_arguments(route))
        for status in statuses:
            self.client.put_integration_response(**method, statusCode=status, selectionPattern="")

    def _ensure_resource(self, api_id, path):
        parent = ""
        for ancestor in plan.ancestry(path):
            if ancestor not in self.resource_ids:
                part = ancestor.rpartition("/")[2]
                made = self.client.create_resource(restApiId=api_id, parentId=self.resource_ids[parent], pathPart=part)
                self.resource_ids[ancestor] = made["id"]
            parent = ancestor

    def _converge_stage(self, api_id, live, want):
        deployment_id = None
        if live.get("deployed") != want["deployed"]:
            deployment_id = self._deployment(api_id, want["deployed"])["id"]
        if not live:
            keys = ("stageName", "variables", "tracingEnabled", "tags")
            arguments = {key: want[key] for key in keys if key in want}
            live = self.client.create_stage(restApiId=api_id, deploymentId=deployment_id, **arguments)
            deployment_id = None
        patches = plan.stage_patches(live, want, deployment_id)
        if patches:
            self.client.update_stage(restApiId=api_id, stageName=want["stageName"], patchOperations=patches)
        self._tag_stage(self.arn(f"{api_id}/stages/{want['stageName']}"), live, want)

    def _deployment(self, api_id, deployed):
        """Return a deployment of what is declared: an earlier one, which a run may have left, or a new one."""

        def look():
            deployments = self.items("get_deployments", restApiId=api_id)
            return next((found for found in deployments if found.get("description") == deployed), None)

        return look() or self.create_once("create_deployment", look, restApiId=api_id, description=deployed)

    def _tag_stage(self, arn, live, want):
        to_set, to_unset = diff.tag_changes(want.get("tags"), live.get("tags"), self.params["purge_tags"])
        if to_unset:
            self.client.untag_resource(resourceArn=arn, tagKeys=to_unset)
        if to_set:
            self.client.tag_resource(resourceArn=arn, tags=to_set)

    def delete(self, live):
        for api in self.found:
            self.client.delete_rest_api(restApiId=api["id"])
