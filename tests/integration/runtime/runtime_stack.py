"""Parts of the stack as the project deploys it, in the account of the tests: database, metadata service, Batch."""

import json

from runtime_account import METADATA_IMAGE, PYTHON_IMAGE, wait_for

HOST = "db.aaaaaaaaaa.us-east-1.rds.amazonaws.com"
SHOW = 'echo $EMULATOR_DATABASE_PATH; echo "$EMULATOR_DATABASE_ERROR"; echo $EMULATOR_SCHEMA_VERSION'
DONE = ("SUCCEEDED", "FAILED")


class Database:
    """An RDS instance and the settings that open it."""

    def __init__(self, account):
        self.account = account
        versions = account.rds.describe_db_engine_versions(Engine="postgres")["DBEngineVersions"]
        newest = max(versions, key=lambda version: [int(part) for part in version["EngineVersion"].split(".")])
        self.version, family = newest["EngineVersion"], newest["DBParameterGroupFamily"]
        self.group = account.security_group("database", 5432, "10.20.0.0/24")
        account.rds.create_db_subnet_group(
            DBSubnetGroupName="db", DBSubnetGroupDescription="db", SubnetIds=account.subnets
        )
        account.rds.create_db_parameter_group(
            DBParameterGroupName="pg", DBParameterGroupFamily=family, Description="pg"
        )
        self.create("db", MasterUserPassword="right-password")

    def create(self, name, **options):
        return self.account.rds.create_db_instance(
            DBInstanceIdentifier=name,
            DBInstanceClass="db.t4g.micro",
            Engine="postgres",
            EngineVersion=self.version,
            DBName="metaflow",
            MasterUsername="metaflow",
            AllocatedStorage=20,
            DBSubnetGroupName="db",
            DBParameterGroupName="pg",
            VpcSecurityGroupIds=[self.group],
            **options,
        )["DBInstance"]

    def try_settings(self, **settings):
        """Run a task with these settings; (path, error, schema version)."""
        given = {
            "HOST": HOST,
            "PORT": "5432",
            "USER": "metaflow",
            "PSWD": "right-password",
            "NAME": "metaflow",
            "SSL_MODE": "require",
        }
        variables = {f"MF_METADATA_DB_{name}": value for name, value in (given | settings).items() if value}
        container = self.account.container("sh", "-c", SHOW, image=METADATA_IMAGE, variables=variables)
        arn = self.account.run(self.account.define(container))
        self.account.stopped(arn)
        lines = self.account.log_of(arn)
        path = lines.pop(0) if lines and lines[0].endswith(".sqlite") else None
        version = lines.pop() if path and lines else None
        return path, "\n".join(lines), version

    def resource_id(self, name="db"):
        return self.account.rds.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]["DbiResourceId"]


def start_metadata_service(account, schema_version=None):
    """Run the metadata service behind the load balancers ``api`` (port 80) and ``migration`` (port 8082)."""
    Database(account)
    secret = account.secrets.create_secret(Name="db", SecretString=json.dumps({"password": "right-password"}))["ARN"]
    account.allow("execution", ["secretsmanager:GetSecretValue"], secret)
    if schema_version:
        account.emulator.request("POST", "/_runtime/databases/db", {"schema_version": schema_version})
    settings = {"HOST": HOST, "PORT": "5432", "USER": "metaflow", "NAME": "metaflow", "SSL_MODE": "require"}
    variables = {f"MF_METADATA_DB_{name}": value for name, value in settings.items()}
    container = account.container(
        image=METADATA_IMAGE,
        variables=variables | {"MF_METADATA_HOST": "0.0.0.0"},
        secrets=[{"name": "MF_METADATA_DB_PSWD", "valueFrom": f"{secret}:password::"}],
        portMappings=[{"containerPort": 8080}, {"containerPort": 8082}],
    )
    del container["command"]
    groups = [account.load_balancer("api", 80), account.load_balancer("migration", 8082, target_port=8082)]
    balancers = [
        {"targetGroupArn": group, "containerName": "main", "containerPort": port}
        for group, port in zip(groups, (8080, 8082), strict=True)
    ]
    account.ecs.create_service(
        cluster="test",
        serviceName="app",
        taskDefinition=account.define(container),
        desiredCount=1,
        launchType="FARGATE",
        networkConfiguration=account.network,
        loadBalancers=balancers,
    )
    account.stable()


class Batch:
    """A compute environment, a queue and a role in the shared account."""

    def __init__(self, account):
        self.account = account
        self.client = account.emulator.client("batch")
        self.role = account.role("job", "ecs-tasks.amazonaws.com")
        account.role("instance", "ec2.amazonaws.com")
        account.iam.create_instance_profile(InstanceProfileName="instance")
        account.iam.add_role_to_instance_profile(InstanceProfileName="instance", RoleName="instance")
        self.service_role = account.role("batch", "batch.amazonaws.com")
        self.environment = self.compute_environment(
            "ec2", type="EC2", instanceTypes=["m5.large", "c5"], instanceRole="instance"
        )
        self.queue("queue", self.environment)

    def compute_environment(self, name, **resources):
        settings = {
            "maxvCpus": 8,
            "minvCpus": 0,
            "subnets": self.account.subnets,
            "securityGroupIds": [self.account.group],
        }
        if "FARGATE" in resources["type"]:
            del settings["minvCpus"]
        return self.client.create_compute_environment(
            computeEnvironmentName=name,
            type="MANAGED",
            state="ENABLED",
            computeResources=settings | resources,
            serviceRole=self.service_role,
        )["computeEnvironmentArn"]

    def queue(self, name, *environments, priority=1):
        order = [{"order": number, "computeEnvironment": arn} for number, arn in enumerate(environments, 1)]
        self.client.create_job_queue(
            jobQueueName=name, state="ENABLED", priority=priority, computeEnvironmentOrder=order
        )

    def submit(
        self, *command, name="job", queue="queue", vcpus="1", memory="128", image=PYTHON_IMAGE, options=None, **more
    ):
        """Submit a job with a definition of its own; its id."""
        resources = [{"type": "VCPU", "value": vcpus}, {"type": "MEMORY", "value": memory}]
        properties = {
            "image": image,
            "command": list(command),
            "resourceRequirements": resources,
            "jobRoleArn": self.role,
        } | (options or {})
        definition = self.client.register_job_definition(
            jobDefinitionName="fargate" if "platforms" in more else "ec2",
            type="container",
            containerProperties=properties,
            **({"platformCapabilities": more.pop("platforms")} if "platforms" in more else {}),
        )["jobDefinitionArn"]
        return self.client.submit_job(jobName=name, jobQueue=queue, jobDefinition=definition, **more)["jobId"]

    def job(self, job_id):
        return self.client.describe_jobs(jobs=[job_id])["jobs"][0]

    def reached(self, job_id, *states):
        return wait_for(lambda: (job := self.job(job_id))["status"] in states and job)

    def done(self, job_id):
        return self.reached(job_id, *DONE)

    def log(self, job):
        stream = job["container"]["logStreamName"]
        events = self.account.logs.get_log_events(
            logGroupName="/aws/batch/job", logStreamName=stream, startFromHead=True
        )
        return [event["message"] for event in events["events"]]

    def states(self, status):
        return [job["jobId"] for job in self.client.list_jobs(jobQueue="queue", jobStatus=status)["jobSummaryList"]]
