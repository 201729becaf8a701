# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An account in which the tests of Batch's modules run jobs: network, instance profile, queues."""

from __future__ import annotations

import json
import time

QUEUES = ["flows", "cheap"]
IMAGE = "python:3.12-slim"
OURS = "123456789012.dkr.ecr.us-east-1.amazonaws.com/flows"
AGENT_POLICY = "arn:aws:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role"
MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json"})


class Account:
    """A private subnet behind a NAT gateway, an instance profile, and queues on EC2 and on SPOT."""

    def __init__(self, emulator):
        self.emulator = emulator
        self.batch, self.ec2, self.iam, self.ecr = map(emulator.client, ("batch", "ec2", "iam", "ecr"))
        self._network()
        self._profile()
        for kind in ("ec2", "spot"):
            self.batch.create_compute_environment(
                computeEnvironmentName=kind,
                type="MANAGED",
                computeResources={
                    "type": kind.upper(),
                    "minvCpus": 0,
                    "maxvCpus": 2,
                    "instanceTypes": ["m5.large", "m5.2xlarge"],
                    "instanceRole": "instance",
                    "subnets": [self.subnet],
                    "securityGroupIds": [self.group],
                },
            )
        for queue, environment in (("flows", "ec2"), ("cheap", "spot")):
            order = [{"order": 1, "computeEnvironment": environment}]
            self.batch.create_job_queue(jobQueueName=queue, priority=1, computeEnvironmentOrder=order)

    def _network(self):
        vpc = self.ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
        self.public = self.ec2.create_subnet(VpcId=vpc, CidrBlock="10.20.0.0/24")["Subnet"]["SubnetId"]
        self.subnet = self.ec2.create_subnet(VpcId=vpc, CidrBlock="10.20.1.0/24")["Subnet"]["SubnetId"]
        gateway = self.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        self.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
        self.make_nat()
        filters = [{"Name": "vpc-id", "Values": [vpc]}]
        main = self.ec2.describe_route_tables(Filters=filters)["RouteTables"][0]["RouteTableId"]
        self.ec2.create_route(RouteTableId=main, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
        self.table = self.ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
        self.ec2.associate_route_table(RouteTableId=self.table, SubnetId=self.subnet)
        self.ec2.create_route(RouteTableId=self.table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=self.nat)
        self.group = self.ec2.create_security_group(GroupName="b", Description="b", VpcId=vpc)["GroupId"]

    def make_nat(self):
        address = self.ec2.allocate_address(Domain="vpc")["AllocationId"]
        self.nat = self.ec2.create_nat_gateway(SubnetId=self.public, AllocationId=address)["NatGateway"]["NatGatewayId"]

    def _profile(self):
        self.iam.create_role(RoleName="instance", AssumeRolePolicyDocument=trust("ec2.amazonaws.com"))
        self.iam.attach_role_policy(RoleName="instance", PolicyArn=AGENT_POLICY)
        self.iam.create_instance_profile(InstanceProfileName="instance")
        self.iam.add_role_to_instance_profile(InstanceProfileName="instance", RoleName="instance")

    def submit(self, *command, queue="flows", name="job", vcpus="1", memory="128", image=IMAGE, **properties):
        """Submit a job; its id."""
        resources = [{"type": "VCPU", "value": vcpus}, {"type": "MEMORY", "value": memory}]
        resources += [{"type": "GPU", "value": properties.pop("gpus")}] if "gpus" in properties else []
        container = {"image": image, "command": list(command) or ["true"], "resourceRequirements": resources}
        definition = self.batch.register_job_definition(
            jobDefinitionName=name, type="container", containerProperties=container | properties
        )["jobDefinitionArn"]
        return self.batch.submit_job(jobName=name, jobQueue=queue, jobDefinition=definition)["jobId"]

    def push(self):
        """Make the repository with the image 1, unless it is there."""
        if not self.ecr.describe_repositories()["repositories"]:
            self.ecr.create_repository(repositoryName="flows")
            self.ecr.put_image(repositoryName="flows", imageManifest=MANIFEST, imageTag="1")

    def job(self, job_id):
        return self.batch.describe_jobs(jobs=[job_id])["jobs"][0]

    def reached(self, job_id, *states):
        """Wait until the job is in one of these states; the job."""
        limit = time.monotonic() + 20
        while (job := self.job(job_id))["status"] not in states:
            assert time.monotonic() < limit, job
            time.sleep(0.05)
        return job

    def end_jobs(self):
        """End all jobs that wait or run."""
        for queue in QUEUES:
            for status in ("RUNNABLE", "STARTING", "RUNNING"):
                for job in self.batch.list_jobs(jobQueue=queue, jobStatus=status)["jobSummaryList"]:
                    self.batch.terminate_job(jobId=job["jobId"], reason="the test has ended")
                    self.reached(job["jobId"], "FAILED", "SUCCEEDED")  # it may just have come to its end

    def supply(self, **scarce):
        self.emulator.request("POST", "/_runtime/supply", scarce)


def trust(service):
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
