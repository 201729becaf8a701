"""What PostgreSQL says to a task: the connection settings of its environment against the account's RDS instances.

A task whose settings are right gets EMULATOR_DATABASE_PATH, the file in which the stand-in of the metadata service
keeps that instance's data; one whose settings are wrong gets EMULATOR_DATABASE_ERROR with the words of libpq or of the
server, and meets the failure that it would meet on AWS. The file goes when the instance is deleted.
"""

import json
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from moto.rds.models import DBInstance, RDSBackend

from emulator.gaps import wrap

from .network import Peer, admits
from .place import Place, backends

FORCE_SSL_SINCE = 15
"""Major version of PostgreSQL from which the default of rds.force_ssl is 1 on RDS."""

PLAIN_MODES = {"", "disable"}
VERIFYING_MODES = {"verify-ca", "verify-full"}


class Refused(Exception):
    """The connection fails; the message is what the client gets to see."""


class Databases:
    """The data files of the account's PostgreSQL instances."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._schema_versions: dict[str, str] = {}

    def environment(self, place: Place, settings: Mapping[str, str], client: Peer) -> dict[str, str]:
        """The variables that tell the stand-in where its database is, or why it has none."""
        try:
            instance = connect(place, settings, client)
        except Refused as refusal:
            return {"EMULATOR_DATABASE_ERROR": str(refusal)}
        self.directory.mkdir(parents=True, exist_ok=True)
        found = {"EMULATOR_DATABASE_PATH": str(self.path(instance))}
        version = self._schema_versions.get(instance.db_instance_identifier)
        return found if version is None else {**found, "EMULATOR_SCHEMA_VERSION": version}

    def path(self, instance: Any) -> Path:
        """The data file of an instance."""
        return self.directory / f"{instance.dbi_resource_id}.sqlite"

    def set_schema_version(self, instance_id: str, version: str) -> None:
        """Let a fresh database of the instance begin with this version of the schema."""
        self._schema_versions[instance_id] = version

    def delete(self, instance: Any) -> None:
        """Remove the data of a deleted instance."""
        for path in self.directory.glob(f"{instance.dbi_resource_id}.sqlite*"):
            path.unlink(missing_ok=True)
        self._schema_versions.pop(instance.db_instance_identifier, None)

    def reset(self) -> None:
        """Remove all data, also what an emulator that was killed has left."""
        for path in self.directory.glob("db-*.sqlite*"):
            path.unlink(missing_ok=True)
        self._schema_versions.clear()


def install(databases: Databases) -> None:
    """Give each instance a resource id of its own, and let the data of a deleted instance go."""

    @wrap(DBInstance, "__init__")
    def init(original: Callable[..., None], self: DBInstance, *args: Any, **kwargs: Any) -> None:
        """moto has one id for all; on AWS a new instance of the same name has a new one, and starts empty."""
        original(self, *args, **kwargs)
        self.dbi_resource_id = f"db-{uuid.uuid4().hex[:26].upper()}"

    @wrap(RDSBackend, "delete_db_instance")
    def delete_db_instance(original: Callable[..., Any], self: RDSBackend, *args: Any, **kwargs: Any) -> Any:
        instance = original(self, *args, **kwargs)
        databases.delete(instance)
        return instance


def connect(place: Place, settings: Mapping[str, str], client: Peer) -> Any:
    """The instance that the MF_METADATA_DB_* settings open, or Refused."""
    setting = {
        name: settings.get(f"MF_METADATA_DB_{name}", "") for name in ("HOST", "USER", "PSWD", "NAME", "SSL_MODE")
    }
    host, port = setting["HOST"] or "localhost", int(settings.get("MF_METADATA_DB_PORT") or 5432)
    instance = _find(host)
    if instance is None:
        raise Refused(f'could not translate host name "{host}" to address: Name or service not known')
    server = f'connection to server at "{host}", port {port} failed: '
    _check_reachable(place, instance, port, client, server)
    _check_tls(place, instance, settings, setting, client, server)
    if setting["USER"] != instance.master_username or setting["PSWD"] != password(place, instance):
        raise Refused(f'{server}FATAL:  password authentication failed for user "{setting["USER"]}"')
    if setting["NAME"] not in {instance.db_name, "postgres"}:
        raise Refused(f'{server}FATAL:  database "{setting["NAME"]}" does not exist')
    return instance


def password(place: Place, instance: Any) -> str | None:
    """The master password: the given one, or the one that RDS keeps in Secrets Manager."""
    if not instance.manage_master_user_password:
        return instance._master_user_password
    answer = place.backend("secretsmanager").get_secret_value(instance.master_user_secret.secret_arn, None, None)
    return json.loads(answer["SecretString"])["password"]


def _find(host: str) -> Any | None:
    for _, rds in backends("rds"):
        for instance in list(rds.databases.values()):
            if instance.engine == "postgres" and instance.address == host:
                return instance
    return None


def _check_reachable(place: Place, instance: Any, port: int, client: Peer, server: str) -> None:
    target = Peer(tuple(instance.vpc_security_group_ids), tuple(_networks(instance)))
    if not admits(place, client, target, port):
        raise Refused(
            f"{server}Connection timed out\n\tIs the server running on that host and accepting TCP/IP connections?"
        )
    if port != int(instance.port) or instance.status != "available":
        raise Refused(
            f"{server}Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?"
        )


def _check_tls(
    place: Place, instance: Any, settings: Mapping[str, str], setting: Mapping[str, str], client: Peer, server: str
) -> None:
    mode = setting["SSL_MODE"]
    if mode in VERIFYING_MODES and not settings.get("MF_METADATA_DB_SSL_ROOT_CERT_PATH"):
        raise Refused(f'{server}root certificate file "/root/.postgresql/root.crt" does not exist')
    if mode in PLAIN_MODES and forces_ssl(instance):
        address = next(iter(client.addresses), "")
        raise Refused(
            f'{server}FATAL:  no pg_hba.conf entry for host "{address}", user "{setting["USER"]}", '
            f'database "{setting["NAME"]}", no encryption'
        )


def forces_ssl(instance: Any) -> bool:
    """Whether rds.force_ssl is on: as the parameter group says, else the default of the version."""
    for group in instance.db_parameter_groups():
        value = group.parameters.get("rds.force_ssl", {}).get("ParameterValue")
        if value is not None:
            return str(value) == "1"
    return int(str(instance.engine_version).split(".")[0]) >= FORCE_SSL_SINCE


def _networks(instance: Any) -> list[str]:
    """The networks in which the instance may have its address."""
    group = getattr(instance, "db_subnet_group", None)
    return [subnet.cidr_block for subnet in group._subnets] if group else []
