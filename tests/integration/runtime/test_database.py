"""A task's database settings are checked as PostgreSQL and the network would check them."""

import json
from pathlib import Path

import pytest
from runtime_stack import HOST, Database

SERVER = f'connection to server at "{HOST}", port 5432 failed: '


@pytest.fixture(scope="module")
def database(shared_account):
    return Database(shared_account)


def test_right_settings_open_the_instances_own_file(database):
    path, error, version = database.try_settings()
    assert path == str(database.account.emulator.state_dir / "databases" / f"{database.resource_id()}.sqlite")
    assert (error, version) == ("", None)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (
            {"HOST": "elsewhere.example"},
            'could not translate host name "elsewhere.example" to address: Name or service not known',
        ),
        ({"PSWD": "wrong-password"}, SERVER + 'FATAL:  password authentication failed for user "metaflow"'),
        ({"USER": "root"}, SERVER + 'FATAL:  password authentication failed for user "root"'),
        ({"NAME": "other"}, SERVER + 'FATAL:  database "other" does not exist'),
        ({"PORT": "5433"}, SERVER.replace("5432", "5433") + "Connection timed out"),
        ({"SSL_MODE": "verify-full"}, SERVER + 'root certificate file "/root/.postgresql/root.crt" does not exist'),
        ({"SSL_MODE": "disable"}, SERVER + "FATAL:  no pg_hba.conf entry for host"),
        ({"SSL_MODE": None}, SERVER + "FATAL:  no pg_hba.conf entry for host"),
    ],
)
def test_wrong_settings_fail_as_on_postgresql(database, settings, error):
    path, message, _ = database.try_settings(**settings)
    assert path is None
    assert message.startswith(error)


@pytest.mark.parametrize(
    "settings", [{"SSL_MODE": "allow"}, {"SSL_MODE": "verify-full", "SSL_ROOT_CERT_PATH": "/rds.pem"}]
)
def test_tls_modes_that_work(database, settings):
    assert database.try_settings(**settings)[0]


def test_plain_connections_work_where_the_parameter_group_lets_them(database):
    def force_ssl(value):
        parameter = {"ParameterName": "rds.force_ssl", "ParameterValue": value, "ApplyMethod": "immediate"}
        database.account.rds.modify_db_parameter_group(DBParameterGroupName="pg", Parameters=[parameter])

    force_ssl("0")
    assert database.try_settings(SSL_MODE="disable")[0]
    force_ssl("1")
    assert "no encryption" in database.try_settings(SSL_MODE="disable")[1]


def test_the_security_group_must_admit_the_task(database):
    rule = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432}
    by_network = rule | {"IpRanges": [{"CidrIp": "10.20.0.0/24"}]}
    by_group = rule | {"UserIdGroupPairs": [{"GroupId": database.account.group}]}
    ec2 = database.account.ec2
    ec2.revoke_security_group_ingress(GroupId=database.group, IpPermissions=[by_network])
    assert database.try_settings()[1].startswith(SERVER + "Connection timed out")
    ec2.authorize_security_group_ingress(GroupId=database.group, IpPermissions=[by_group])
    assert database.try_settings()[0]


def test_a_managed_password_is_the_one_in_the_secret(database):
    instance = database.create("managed", ManageMasterUserPassword=True)
    secret = instance["MasterUserSecret"]["SecretArn"]
    value = json.loads(database.account.secrets.get_secret_value(SecretId=secret)["SecretString"])["password"]
    host = HOST.replace("db.", "managed.")
    assert database.try_settings(HOST=host, PSWD=value)[0].endswith(f"{database.resource_id('managed')}.sqlite")
    assert "password authentication failed" in database.try_settings(HOST=host)[1]


def test_a_new_instance_of_the_same_name_starts_empty(database):
    host = HOST.replace("db.", "brief.")
    database.create("brief", MasterUserPassword="right-password")
    before = Path(database.try_settings(HOST=host)[0])
    before.write_text("data")
    database.account.emulator.request("POST", "/_runtime/databases/brief", {"schema_version": "20230101"})
    assert database.try_settings(HOST=host)[2] == "20230101"
    database.account.rds.delete_db_instance(DBInstanceIdentifier="brief", SkipFinalSnapshot=True)
    assert not before.exists()
    database.create("brief", MasterUserPassword="right-password")
    after, _, version = database.try_settings(HOST=host)
    assert after != str(before)
    assert version is None
