"""An account with a network, roles and a cluster, in which the tests of the runtime run tasks and services."""

import json
import sys
import textwrap
import time

METADATA_IMAGE = "netflixoss/metaflow_metadata_service:v2.5.0"
PYTHON_IMAGE = "python:3.12-slim"

HTTP_SERVER = textwrap.dedent("""
    import http.server, os, signal, sys
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        def do_GET(self):
            length = int(self.headers.get("Content-Length") or 0)
            body = f"{os.environ.get('ANSWER', 'pong')} {self.command} {self.path} ".encode() + self.rfile.read(length)
            self.send_response(int(self.headers.get("X-Answer-With") or os.environ.get("STATUS", 200)))
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Got", self.headers.get("X-Sent", ""))
            self.end_headers()
            self.wfile.write(body)
        do_POST = do_PATCH = do_PUT = do_DELETE = do_GET
        def log_message(self, *args): pass
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("serving", flush=True)
    http.server.ThreadingHTTPServer.request_queue_size = 128  # 5 by default: a burst of connections would be reset
    http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["MF_METADATA_PORT"])), Handler).serve_forever()
""")
"""A program that listens where the metadata service's image says; the tests give it as that image's command."""


def wait_for(condition, seconds=20):
    """Wait until the condition holds; fail with the value that it had last."""
    limit = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < limit, value
        time.sleep(0.05)
    return value


class Account:
    """What the tests need of an account, made through its API."""

    def __init__(self, emulator):
        self.emulator = emulator
        self.ec2, self.ecs, self.iam, self.logs, self.elb, self.rds, self.secrets, self.ssm = map(
            emulator.client, ("ec2", "ecs", "iam", "logs", "elbv2", "rds", "secretsmanager", "ssm")
        )
        self.vpc = self.ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
        self.subnets = [
            self.ec2.create_subnet(VpcId=self.vpc, CidrBlock=f"10.20.{n}.0/24", AvailabilityZone=f"us-east-1{zone}")[
                "Subnet"
            ]["SubnetId"]
            for n, zone in enumerate("ab")
        ]
        self._let_out()
        self.group = self.security_group("tasks", 8080, "10.20.0.0/16", last_port=8082)
        self.logs.create_log_group(logGroupName="/ecs/test")
        self.execution_role = self.role("execution", "ecs-tasks.amazonaws.com")
        self.allow("execution", ["logs:*"], "*")
        self.task_role = self.role("task", "ecs-tasks.amazonaws.com")
        self.ecs.create_cluster(clusterName="test")

    def _let_out(self):
        """Make the subnets public: the ECS agent of an instance must reach AWS."""
        gateway = self.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        self.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=self.vpc)
        filters = [{"Name": "vpc-id", "Values": [self.vpc]}]
        (table,) = self.ec2.describe_route_tables(Filters=filters)["RouteTables"]
        self.ec2.create_route(RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
        for subnet in self.subnets:
            self.ec2.modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": True})

    def security_group(self, name, port, cidr, last_port=None):
        group = self.ec2.create_security_group(GroupName=name, Description=name, VpcId=self.vpc)["GroupId"]
        permission = {
            "IpProtocol": "tcp",
            "FromPort": port,
            "ToPort": last_port or port,
            "IpRanges": [{"CidrIp": cidr}],
        }
        self.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission])
        return group

    def role(self, name, service):
        statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        return self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]

    def allow(self, role, actions, resource):
        statement = {"Effect": "Allow", "Action": actions, "Resource": resource}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.iam.put_role_policy(RoleName=role, PolicyName=actions[0].replace(":*", ""), PolicyDocument=document)

    @property
    def network(self):
        return {"awsvpcConfiguration": {"subnets": self.subnets[:1], "securityGroups": [self.group]}}

    def define(self, *containers, **options):
        """Register a Fargate task definition; its ARN."""
        options = {"executionRoleArn": self.execution_role, "taskRoleArn": self.task_role} | options
        definition = self.ecs.register_task_definition(
            family="test",
            requiresCompatibilities=["FARGATE"],
            networkMode="awsvpc",
            cpu="256",
            memory="512",
            containerDefinitions=list(containers),
            **{name: value for name, value in options.items() if value},
        )
        return definition["taskDefinition"]["taskDefinitionArn"]

    def container(self, *command, image=PYTHON_IMAGE, variables=None, **options):
        """A container definition that logs to /ecs/test."""
        logging = {"awslogs-group": "/ecs/test", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "app"}
        return {
            "name": "main",
            "image": image,
            "command": list(command),
            "environment": [{"name": name, "value": value} for name, value in (variables or {}).items()],
            "logConfiguration": {"logDriver": "awslogs", "options": logging},
        } | options

    def server(self, **options):
        """A container definition of an HTTP server on container port 8080."""
        mapping = {"portMappings": [{"containerPort": 8080}], "image": METADATA_IMAGE}
        return self.container(sys.executable, "-c", HTTP_SERVER, **(mapping | options))

    def run(self, definition, **options):
        """Run one task; its ARN."""
        answer = self.ecs.run_task(
            cluster="test",
            taskDefinition=definition,
            launchType="FARGATE",
            networkConfiguration=self.network,
            **options,
        )
        assert not answer["failures"]
        return answer["tasks"][0]["taskArn"]

    def task(self, arn):
        return self.ecs.describe_tasks(cluster="test", tasks=[arn])["tasks"][0]

    def stopped(self, arn):
        """Wait until the task has stopped; the task."""
        return wait_for(lambda: (task := self.task(arn))["lastStatus"] == "STOPPED" and task)

    def running(self, arn):
        """Wait until the task runs; the task."""
        return wait_for(lambda: (task := self.task(arn))["lastStatus"] == "RUNNING" and task)

    def log_of(self, arn, container="main"):
        stream = f"app/{container}/{arn.split('/')[-1]}"
        events = self.logs.get_log_events(logGroupName="/ecs/test", logStreamName=stream, startFromHead=True)["events"]
        return [event["message"] for event in events]

    def load_balancer(self, name="test", port=80, target_port=8080):
        """A network load balancer that forwards one port to a target group; the group's ARN."""
        balancer = self.elb.create_load_balancer(Name=name, Type="network", Scheme="internal", Subnets=self.subnets)
        group = self.elb.create_target_group(
            Name=name,
            Protocol="TCP",
            Port=target_port,
            VpcId=self.vpc,
            TargetType="ip",
            HealthCheckIntervalSeconds=5,
            HealthCheckTimeoutSeconds=5,
        )["TargetGroups"][0]["TargetGroupArn"]
        self.elb.create_listener(
            LoadBalancerArn=balancer["LoadBalancers"][0]["LoadBalancerArn"],
            Protocol="TCP",
            Port=port,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": group}],
        )
        return group

    def service(self, definition, count=1, target_group=None, **options):
        """Create a service named ``app``."""
        balancers = [{"targetGroupArn": target_group, "containerName": "main", "containerPort": 8080}]
        return self.ecs.create_service(
            cluster="test",
            serviceName="app",
            taskDefinition=definition,
            desiredCount=count,
            launchType="FARGATE",
            networkConfiguration=self.network,
            loadBalancers=balancers if target_group else [],
            **options,
        )["service"]

    def described(self):
        return self.ecs.describe_services(cluster="test", services=["app"])["services"][0]

    def stable(self):
        """Wait as boto3 does, but oftener, until the service is stable, and its deployment completed; the service."""
        waiter = self.ecs.get_waiter("services_stable")
        waiter.wait(cluster="test", services=["app"], WaiterConfig={"Delay": 0.1, "MaxAttempts": 200})
        return wait_for(
            lambda: (service := self.described())["deployments"][0]["rolloutState"] == "COMPLETED" and service
        )

    def service_tasks(self):
        return self.ecs.list_tasks(cluster="test", serviceName="app")["taskArns"]

    def health(self, group):
        targets = self.elb.describe_target_health(TargetGroupArn=group)["TargetHealthDescriptions"]
        return [target["TargetHealth"]["State"] for target in targets]

    def are_gone(self, services):
        """Tell whether services have drained."""
        found = self.ecs.describe_services(cluster="test", services=services)["services"] if services else []
        return all(service["status"] == "INACTIVE" for service in found)

    def tidy(self):
        """Remove what a test left: services, tasks, load balancers, policies beyond the first."""
        services = self.ecs.list_services(cluster="test")["serviceArns"]
        for arn in services:
            self.ecs.delete_service(cluster="test", service=arn, force=True)
        for arn in self.ecs.list_tasks(cluster="test")["taskArns"]:
            self.ecs.stop_task(cluster="test", task=arn)
        wait_for(lambda: self.are_gone(services))
        for balancer in self.elb.describe_load_balancers()["LoadBalancers"]:
            self.elb.delete_load_balancer(LoadBalancerArn=balancer["LoadBalancerArn"])
        for group in self.elb.describe_target_groups()["TargetGroups"]:
            self.elb.delete_target_group(TargetGroupArn=group["TargetGroupArn"])
        for name in self.iam.list_role_policies(RoleName="execution")["PolicyNames"]:
            if name != "logs":
                self.iam.delete_role_policy(RoleName="execution", PolicyName=name)
        for secret in self.secrets.list_secrets()["SecretList"]:
            self.secrets.delete_secret(SecretId=secret["ARN"], ForceDeleteWithoutRecovery=True)
        for parameter in self.ssm.describe_parameters()["Parameters"]:
            self.ssm.delete_parameter(Name=parameter["Name"])
