"""Requests to a stage and to a load balancer reach the tasks behind them, if they may."""

import concurrent.futures
import http.client
import json
from urllib.parse import urlsplit

import pytest
from runtime_account import wait_for


class Stage:
    """A REST API in front of a load balancer in front of a service, as the project's own API is."""

    def __init__(self, account):
        self.account = account
        self.gateway = account.emulator.client("apigateway")
        self.group = account.load_balancer("metadata")
        account.service(account.define(account.server()), target_group=self.group)
        wait_for(lambda: account.health(self.group) == ["healthy"])
        balancer = account.elb.describe_load_balancers(Names=["metadata"])["LoadBalancers"][0]
        self.dns_name = balancer["DNSName"]
        self.link = self.gateway.create_vpc_link(name="link", targetArns=[balancer["LoadBalancerArn"]])["id"]
        self.api = self.gateway.create_rest_api(name="metadata")["id"]
        root = self.gateway.get_resources(restApiId=self.api)["items"][0]["id"]
        self.proxy = self.resource(root, "{proxy+}")
        self.method(self.proxy, "ANY", "http://x/{proxy}")
        self.deploy()
        self.plan, self.key = self.usage_plan()

    def resource(self, parent, part):
        return self.gateway.create_resource(restApiId=self.api, parentId=parent, pathPart=part)["id"]

    def method(self, resource, verb, uri, key=True, authorization="NONE"):
        ids = {"restApiId": self.api, "resourceId": resource, "httpMethod": verb}
        self.gateway.put_method(
            **ids,
            authorizationType=authorization,
            apiKeyRequired=key,
            requestParameters={"method.request.path.proxy": True},
        )
        self.gateway.put_integration(
            **ids,
            type="HTTP_PROXY",
            integrationHttpMethod=verb,
            uri=uri,
            connectionType="VPC_LINK",
            connectionId=self.link,
            requestParameters={"integration.request.path.proxy": "method.request.path.proxy"},
        )

    def deploy(self):
        self.gateway.create_deployment(restApiId=self.api, stageName="api")

    def usage_plan(self, **limits):
        stages = [{"apiId": self.api, "stage": "api"}]
        plan = self.gateway.create_usage_plan(name="plan", apiStages=stages, **limits)["id"]
        key = self.gateway.create_api_key(name="key", enabled=True, generateDistinctId=True)
        self.gateway.create_usage_plan_key(usagePlanId=plan, keyId=key["id"], keyType="API_KEY")
        return plan, self.gateway.get_api_key(apiKey=key["id"], includeValue=True)

    def policy(self, statements):
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        operation = {"op": "replace", "path": "/policy", "value": document}
        self.gateway.update_rest_api(restApiId=self.api, patchOperations=[operation])

    def request(self, method="GET", path="/ping", body=None, key=None, stage="api", source="127.0.0.1", **headers):
        """Send a request to the stage; (status, body, headers)."""
        key = self.key["value"] if key is None else key
        url = f"/restapis/{self.api}/{stage}/_user_request_{path}"
        headers = {name.replace("_", "-"): value for name, value in headers.items()} | (
            {"x-api-key": key} if key else {}
        )
        return send(self.account, method, url, body, headers, source)


def send(account, method, url, body=None, headers=None, source="127.0.0.1"):
    parts = urlsplit(account.emulator.endpoint)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20, source_address=(source, 0))
    try:
        connection.request(method, url, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())
    finally:
        connection.close()


@pytest.fixture(scope="module")
def stage(shared_account):
    made = Stage(shared_account)
    yield made
    made.gateway.delete_rest_api(restApiId=made.api)
    made.gateway.delete_vpc_link(vpcLinkId=made.link)
    shared_account.tidy()


FORBIDDEN = (403, {"message": "Forbidden"})
MISSING_TOKEN = (403, {"message": "Missing Authentication Token"})


def refusal(answer):
    status, body, _ = answer
    return status, json.loads(body)


def test_a_request_travels_as_it_is(stage):
    status, body, headers = stage.request("POST", "/flows/X/run?a=1&b=2%203", body="payload", X_Sent="header")
    assert (status, body) == (200, "pong POST /flows/X/run?a=1&b=2+3 payload")
    assert headers["X-Got"] == "header"


@pytest.mark.parametrize("status", [204, 404, 409, 500])
def test_the_answer_travels_as_it_is(stage, status):
    assert stage.request(X_Answer_With=str(status))[0] == status


def test_the_host_name_of_the_stage_and_of_the_balancer_work(stage):
    host = {"Host": f"{stage.api}.execute-api.us-east-1.amazonaws.com", "x-api-key": stage.key["value"]}
    assert send(stage.account, "GET", "/api/flows/X", headers=host)[:2] == (200, "pong GET /flows/X ")
    assert send(stage.account, "GET", "/a", headers={"Host": stage.dns_name})[:2] == (200, "pong GET /a ")
    proxied = f"http://{stage.dns_name}/through/proxy"
    assert send(stage.account, "GET", proxied, headers={"Host": stage.dns_name})[:2] == (
        200,
        "pong GET /through/proxy ",
    )


def test_the_balancer_by_name_needs_no_key(stage):
    assert send(stage.account, "GET", "/loadbalancers/metadata/80/flows?x=1")[:2] == (200, "pong GET /flows?x=1 ")
    assert send(stage.account, "GET", "/loadbalancers/metadata/81/flows")[0] == 503
    assert send(stage.account, "GET", "/loadbalancers/other/80/flows")[0] == 503


@pytest.mark.parametrize("key", ["", "wrong"])
def test_without_the_key_it_is_forbidden(stage, key):
    assert refusal(stage.request(key=key)) == FORBIDDEN


def test_a_disabled_key_is_forbidden(stage):
    def enable(value):
        operation = {"op": "replace", "path": "/enabled", "value": value}
        stage.gateway.update_api_key(apiKey=stage.key["id"], patchOperations=[operation])

    enable("false")
    assert refusal(stage.request()) == FORBIDDEN
    enable("true")
    assert stage.request()[0] == 200


def test_a_plan_of_another_stage_does_not_help(stage):
    def plan(operation):
        change = {"op": operation, "path": "/apiStages", "value": f"{stage.api}:api"}
        stage.gateway.update_usage_plan(usagePlanId=stage.plan, patchOperations=[change])

    plan("remove")
    assert refusal(stage.request()) == FORBIDDEN
    plan("add")
    assert stage.request()[0] == 200


def test_unknown_stage_api_and_method(stage):
    assert refusal(stage.request(stage="other")) == FORBIDDEN
    assert refusal(send(stage.account, "GET", "/restapis/abcdef/api/_user_request_/ping")) == FORBIDDEN
    assert refusal(stage.request(path="/")) == MISSING_TOKEN


def test_only_what_is_deployed_counts(stage):
    root = next(item["id"] for item in stage.gateway.get_resources(restApiId=stage.api)["items"] if item["path"] == "/")
    status = stage.resource(root, "db_schema_status")
    stage.method(status, "GET", "http://x/mapped", key=False)
    assert stage.request(path="/db_schema_status")[1] == "pong GET /db_schema_status "
    stage.deploy()
    assert stage.request(path="/db_schema_status", key="")[1] == "pong GET /mapped "
    assert refusal(stage.request("PATCH", "/db_schema_status")) == MISSING_TOKEN


def test_a_signature_is_needed_where_iam_decides(stage):
    root = next(item["id"] for item in stage.gateway.get_resources(restApiId=stage.api)["items"] if item["path"] == "/")
    stage.method(stage.resource(root, "signed"), "GET", "http://x/signed", key=False, authorization="AWS_IAM")
    stage.deploy()
    assert refusal(stage.request(path="/signed")) == MISSING_TOKEN


def test_the_resource_policy_looks_at_the_source_address(stage):
    condition = {"IpAddress": {"aws:SourceIp": ["127.0.0.0/29"]}}
    allow = {"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/*"}
    stage.policy([allow | {"Condition": condition}])
    assert stage.request(source="127.0.0.9")[0] == 200, "a policy counts from the next deployment on"
    stage.deploy()
    assert stage.request(source="127.0.0.1")[0] == 200
    status, body, _ = stage.request(source="127.0.0.9")
    assert status == 403
    arn = f"arn:aws:execute-api:us-east-1:********9012:{stage.api}/api/GET/ping"
    message = f"User: anonymous is not authorized to perform: execute-api:Invoke on resource: {arn}"
    assert json.loads(body) == {"Message": message}
    deny = {"Effect": "Deny", "Condition": {"NotIpAddress": {"aws:SourceIp": ["127.0.0.1/32"]}}}
    stage.policy([allow, allow | deny])
    stage.deploy()
    assert stage.request(source="127.0.0.1")[0] == 200
    assert json.loads(stage.request(source="127.0.0.3")[1])["Message"].endswith("with an explicit deny")


def test_the_plan_throttles(stage):
    _, key = stage.usage_plan(throttle={"rateLimit": 0.01, "burstLimit": 2})
    answers = [stage.request(key=key["value"]) for _ in range(3)]
    assert [answer[0] for answer in answers] == [200, 200, 429]
    assert json.loads(answers[-1][1]) == {"message": "Too Many Requests"}


def test_many_clients_at_once(stage):
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: stage.request("POST", f"/n/{n}", body="x" * 1000 + str(n)), range(640)))
    assert [answer[0] for answer in answers] == [200] * 640
    assert all(body == f"pong POST /n/{n} {'x' * 1000}{n}" for n, (_, body, _) in enumerate(answers))


def test_nobody_behind_it(stage):
    ecs = stage.account.ecs
    ecs.update_service(cluster="test", service="app", desiredCount=0)
    wait_for(lambda: stage.account.health(stage.group) == [])
    assert refusal(stage.request()) == (500, {"message": "Internal server error"})
    assert send(stage.account, "GET", "/loadbalancers/metadata/80/x")[0] == 503
    ecs.update_service(cluster="test", service="app", desiredCount=1)
    wait_for(lambda: stage.request()[0] == 200)
    stage.gateway.delete_stage(restApiId=stage.api, stageName="api")
    assert refusal(stage.request()) == FORBIDDEN
