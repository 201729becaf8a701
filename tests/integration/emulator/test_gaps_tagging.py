"""Gaps of the resource tagging API, and of the tags of resources."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from emulated_aws import Emulator

Refused = Callable[..., Any]
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "batch.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


class Stack:
    """Makes one resource of each kind that a stack has, all with the tag stack=<name>."""

    def __init__(self, emulator: Emulator, name: str) -> None:
        self.emulator, self.name = emulator, name
        self.upper = [{"Key": "stack", "Value": name}]
        self.lower = [{"key": "stack", "value": name}]
        self.map = {"stack": name}
        self.account = f"us-east-1:{emulator.client('sts').get_caller_identity()['Account']}"

    def spec(self, kind: str) -> list[dict[str, Any]]:
        return [{"ResourceType": kind, "Tags": self.upper}]

    def make(self, service: str) -> list[str]:
        """Return the ARNs of the resources made in a service."""
        method = getattr(self, "lambda_" if service == "lambda" else service)
        return method(self.emulator.client(service))

    def ec2(self, ec2: Any) -> list[str]:
        vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16", TagSpecifications=self.spec("vpc"))["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.0.0/24", TagSpecifications=self.spec("subnet"))["Subnet"]
        group = ec2.create_security_group(
            GroupName=self.name, Description=self.name, VpcId=vpc, TagSpecifications=self.spec("security-group")
        )["GroupId"]
        gateway = ec2.create_internet_gateway(TagSpecifications=self.spec("internet-gateway"))["InternetGateway"]
        table = ec2.create_route_table(VpcId=vpc, TagSpecifications=self.spec("route-table"))["RouteTable"]
        address = ec2.allocate_address(Domain="vpc", TagSpecifications=self.spec("elastic-ip"))["AllocationId"]
        nat = ec2.create_nat_gateway(
            SubnetId=subnet["SubnetId"], AllocationId=address, TagSpecifications=self.spec("natgateway")
        )["NatGateway"]["NatGatewayId"]
        endpoint = ec2.create_vpc_endpoint(
            VpcId=vpc, ServiceName="com.amazonaws.us-east-1.s3", TagSpecifications=self.spec("vpc-endpoint")
        )["VpcEndpoint"]["VpcEndpointId"]
        template = ec2.create_launch_template(
            LaunchTemplateName=self.name,
            LaunchTemplateData={"InstanceType": "m5.large"},
            TagSpecifications=self.spec("launch-template"),
        )["LaunchTemplate"]["LaunchTemplateId"]
        ids = {
            "vpc": vpc,
            "subnet": subnet["SubnetId"],
            "security-group": group,
            "internet-gateway": gateway["InternetGatewayId"],
            "route-table": table["RouteTableId"],
            "elastic-ip": address,
            "natgateway": nat,
            "vpc-endpoint": endpoint,
            "launch-template": template,
        }
        return [f"arn:aws:ec2:{self.account}:{kind}/{one}" for kind, one in ids.items()]

    def ecs(self, ecs: Any) -> list[str]:
        cluster = ecs.create_cluster(clusterName=self.name, tags=self.lower)["cluster"]["clusterArn"]
        definition = ecs.register_task_definition(
            family=self.name,
            containerDefinitions=[{"name": "main", "image": "busybox", "memory": 64, "essential": True}],
            tags=self.lower,
        )["taskDefinition"]["taskDefinitionArn"]
        service = ecs.create_service(
            cluster=self.name, serviceName=self.name, taskDefinition=self.name, desiredCount=0, tags=self.lower
        )["service"]["serviceArn"]
        return [cluster, definition, service]

    def elbv2(self, elbv2: Any) -> list[str]:
        ec2 = self.emulator.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.8.0.0/16")["Vpc"]["VpcId"]
        subnets = [
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.8.{i}.0/24", AvailabilityZone=f"us-east-1{zone}")["Subnet"][
                "SubnetId"
            ]
            for i, zone in enumerate("ab")
        ]
        balancer = elbv2.create_load_balancer(Name=self.name, Type="network", Subnets=subnets, Tags=self.upper)[
            "LoadBalancers"
        ][0]["LoadBalancerArn"]
        group = elbv2.create_target_group(
            Name=self.name, Protocol="TCP", Port=80, VpcId=vpc, TargetType="ip", Tags=self.upper
        )["TargetGroups"][0]["TargetGroupArn"]
        listener = elbv2.create_listener(
            LoadBalancerArn=balancer,
            Protocol="TCP",
            Port=80,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": group}],
            Tags=self.upper,
        )["Listeners"][0]["ListenerArn"]
        return [balancer, group, listener]

    def logs(self, logs: Any) -> list[str]:
        logs.create_log_group(logGroupName=f"/{self.name}", tags=self.map)
        return [f"arn:aws:logs:{self.account}:log-group:/{self.name}"]

    def codebuild(self, codebuild: Any) -> list[str]:
        project = codebuild.create_project(
            name=self.name,
            source={"type": "S3", "location": "bucket/source.zip"},
            artifacts={"type": "NO_ARTIFACTS"},
            environment={"type": "LINUX_CONTAINER", "image": "i", "computeType": "BUILD_GENERAL1_SMALL"},
            serviceRole=self.role("codebuild.amazonaws.com"),
            tags=self.lower,
        )["project"]
        return [project["arn"]]

    def sns(self, sns: Any) -> list[str]:
        return [sns.create_topic(Name=self.name, Tags=self.upper)["TopicArn"]]

    def secretsmanager(self, secrets: Any) -> list[str]:
        return [secrets.create_secret(Name=self.name, SecretString="x", Tags=self.upper)["ARN"]]

    def ssm(self, ssm: Any) -> list[str]:
        ssm.put_parameter(Name=f"/{self.name}/a", Value="x", Type="SecureString", Tags=self.upper)
        return [f"arn:aws:ssm:{self.account}:parameter/{self.name}/a"]

    def dynamodb(self, dynamodb: Any) -> list[str]:
        table = dynamodb.create_table(
            TableName=self.name,
            KeySchema=[{"AttributeName": "p", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "p", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
            Tags=self.upper,
        )
        return [table["TableDescription"]["TableArn"]]

    def rds(self, rds: Any) -> list[str]:
        ec2 = self.emulator.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.7.0.0/24")["Subnet"]["SubnetId"]
        subnets = rds.create_db_subnet_group(
            DBSubnetGroupName=self.name, DBSubnetGroupDescription="x", SubnetIds=[subnet], Tags=self.upper
        )["DBSubnetGroup"]["DBSubnetGroupArn"]
        parameters = rds.create_db_parameter_group(
            DBParameterGroupName=self.name, DBParameterGroupFamily="postgres17", Description="x", Tags=self.upper
        )["DBParameterGroup"]["DBParameterGroupArn"]
        instance = rds.create_db_instance(
            DBInstanceIdentifier=self.name,
            Engine="postgres",
            DBInstanceClass="db.t4g.small",
            AllocatedStorage=20,
            MasterUsername="metaflow",
            MasterUserPassword="long-enough",
            Tags=self.upper,
        )["DBInstance"]["DBInstanceArn"]
        snapshot = rds.create_db_snapshot(
            DBSnapshotIdentifier=self.name, DBInstanceIdentifier=self.name, Tags=self.upper
        )["DBSnapshot"]["DBSnapshotArn"]
        return [subnets, parameters, instance, snapshot]

    def kms(self, kms: Any) -> list[str]:
        return [kms.create_key(Tags=[{"TagKey": "stack", "TagValue": self.name}])["KeyMetadata"]["Arn"]]

    def s3(self, s3: Any) -> list[str]:
        s3.create_bucket(Bucket=self.name)
        s3.put_bucket_tagging(Bucket=self.name, Tagging={"TagSet": self.upper})
        return [f"arn:aws:s3:::{self.name}"]

    def stepfunctions(self, states: Any) -> list[str]:
        definition = {"StartAt": "a", "States": {"a": {"Type": "Pass", "End": True}}}
        role = self.role("states.amazonaws.com")
        machine = states.create_state_machine(
            name=self.name, definition=json.dumps(definition), roleArn=role, tags=self.lower
        )
        return [machine["stateMachineArn"]]

    def lambda_(self, functions: Any) -> list[str]:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as code:
            code.writestr("main.py", "def handler(event, context): return event")
        function = functions.create_function(
            FunctionName=self.name,
            Runtime="python3.12",
            Role=self.role("lambda.amazonaws.com"),
            Handler="main.handler",
            Code={"ZipFile": archive.getvalue()},
            Tags=self.map,
        )
        return [function["FunctionArn"]]

    def role(self, service: str) -> str:
        trust = json.dumps(TRUST).replace("batch.amazonaws.com", service)
        iam = self.emulator.client("iam")
        return iam.create_role(RoleName=self.name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]

    def batch(self, batch: Any) -> list[str]:
        ec2 = self.emulator.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.6.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.6.0.0/24")["Subnet"]["SubnetId"]
        group = ec2.create_security_group(GroupName=self.name, Description="x", VpcId=vpc)["GroupId"]
        environment = batch.create_compute_environment(
            computeEnvironmentName=self.name,
            type="MANAGED",
            computeResources={
                "type": "FARGATE",
                "maxvCpus": 4,
                "subnets": [subnet],
                "securityGroupIds": [group],
            },
            serviceRole=self.role("batch.amazonaws.com"),
            tags=self.map,
        )["computeEnvironmentArn"]
        queue = batch.create_job_queue(
            jobQueueName=self.name,
            priority=1,
            state="ENABLED",
            computeEnvironmentOrder=[{"order": 1, "computeEnvironment": environment}],
            tags=self.map,
        )["jobQueueArn"]
        definition = batch.register_job_definition(
            jobDefinitionName=self.name,
            type="container",
            containerProperties={"image": "busybox", "vcpus": 1, "memory": 64, "command": ["true"]},
            tags=self.map,
        )["jobDefinitionArn"]
        return [environment, queue, definition]

    def ecr(self, ecr: Any) -> list[str]:
        return [ecr.create_repository(repositoryName=self.name, tags=self.upper)["repository"]["repositoryArn"]]

    def events(self, events: Any) -> list[str]:
        return [events.put_rule(Name=self.name, ScheduleExpression="rate(1 day)", Tags=self.upper)["RuleArn"]]

    def apigateway(self, api: Any) -> list[str]:
        balancer = self.elbv2(self.emulator.client("elbv2"))[0]
        rest = api.create_rest_api(name=self.name, tags=self.map)
        method = {"restApiId": rest["id"], "resourceId": rest["rootResourceId"], "httpMethod": "GET"}
        api.put_method(**method, authorizationType="NONE")
        api.put_integration(**method, type="MOCK")
        deployment = api.create_deployment(restApiId=rest["id"])["id"]
        api.create_stage(restApiId=rest["id"], stageName="api", deploymentId=deployment, tags=self.map)
        link = api.create_vpc_link(name=self.name, targetArns=[balancer], tags=self.map)["id"]
        key = api.create_api_key(name=self.name, tags=self.map)["id"]
        plan = api.create_usage_plan(name=self.name, tags=self.map)["id"]
        paths = (
            f"restapis/{rest['id']}",
            f"restapis/{rest['id']}/stages/api",
            f"vpclinks/{link}",
            f"apikeys/{key}",
            f"usageplans/{plan}",
        )
        return [f"arn:aws:apigateway:us-east-1::/{path}" for path in paths]

    def sagemaker(self, sagemaker: Any) -> list[str]:
        script = {"Content": "dHJ1ZQ=="}
        configuration = sagemaker.create_notebook_instance_lifecycle_config(
            NotebookInstanceLifecycleConfigName=self.name, OnStart=[script], Tags=self.upper
        )["NotebookInstanceLifecycleConfigArn"]
        notebook = sagemaker.create_notebook_instance(
            NotebookInstanceName=self.name,
            InstanceType="ml.t3.medium",
            RoleArn=self.role("sagemaker.amazonaws.com"),
            Tags=self.upper,
        )["NotebookInstanceArn"]
        return [configuration, notebook]


def tagged(emulator: Emulator, name: str, *types: str) -> dict[str, dict[str, str]]:
    pages = (
        emulator.client("resourcegroupstaggingapi")
        .get_paginator("get_resources")
        .paginate(TagFilters=[{"Key": "stack", "Values": [name]}], ResourceTypeFilters=types)
    )
    found = [m for page in pages for m in page["ResourceTagMappingList"]]
    return {m["ResourceARN"]: {t["Key"]: t["Value"] for t in m["Tags"]} for m in found}


COVERED_BY_MOTO = ["dynamodb", "ecs", "kms", "lambda", "logs", "s3", "secretsmanager", "sns", "ssm", "stepfunctions"]
LEFT_OUT_BY_MOTO = ["apigateway", "batch", "codebuild", "ec2", "ecr", "elbv2", "events", "rds", "sagemaker"]


def check_found(emulator: Emulator, name: str, service: str) -> None:
    made = Stack(emulator, name).make(service)
    found = tagged(emulator, name)
    assert set(made) <= set(found)
    assert {t["stack"] for t in found.values()} == {name}


@pytest.mark.parametrize("service", COVERED_BY_MOTO)
def test_resources_are_found_by_tag(emulator: Emulator, name: str, service: str) -> None:
    check_found(emulator, name, service)


@pytest.mark.gap("tagging/all-services")
@pytest.mark.parametrize("service", LEFT_OUT_BY_MOTO)
def test_resources_of_these_services_too(emulator: Emulator, name: str, service: str) -> None:
    check_found(emulator, name, service)


@pytest.mark.gap("tagging/all-services")
def test_types_filter_the_resources(emulator: Emulator, name: str) -> None:
    environment, queue, _ = Stack(emulator, name).make("batch")
    assert set(tagged(emulator, name, "batch:job-queue")) == {queue}
    assert set(tagged(emulator, name, "batch:job-queue", "batch:compute-environment")) == {queue, environment}
    assert set(tagged(emulator, name, "ecr")) == set()


@pytest.mark.gap("tagging/tags-of-deleted-resources")
def test_a_deleted_resource_has_no_tags(emulator: Emulator, name: str) -> None:
    ec2 = emulator.client("ec2")
    mine = [{"Name": "key", "Values": ["stack"]}, {"Name": "value", "Values": [name]}]
    spec = [{"ResourceType": "vpc", "Tags": [{"Key": "stack", "Value": name}]}]
    vpc = ec2.create_vpc(CidrBlock="10.5.0.0/16", TagSpecifications=spec)["Vpc"]["VpcId"]
    assert [t["ResourceId"] for t in ec2.describe_tags(Filters=mine)["Tags"]] == [vpc]
    ec2.delete_vpc(VpcId=vpc)
    assert ec2.describe_tags(Filters=mine)["Tags"] == []
