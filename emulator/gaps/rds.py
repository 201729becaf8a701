"""Gaps of RDS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from moto.core.responses import ActionResult, PaginatedResult
from moto.ec2.models import ec2_backends
from moto.rds import models
from moto.rds.exceptions import (
    DBParameterGroupNotFoundError,
    InvalidParameterCombination,
    InvalidParameterValue,
    RDSClientError,
)
from moto.rds.responses import RDSResponse

from emulator.gaps import add, before, gap, rds_catalogue, replace, wrap
from emulator.gaps.ec2_dependencies import hold, release

PASSWORD_LENGTHS = range(8, 129)


@gap("rds", "engine-versions", "The versions of PostgreSQL can be listed; a major one stands for its default minor.")
def engine_versions() -> None:
    @add(RDSResponse, "describe_db_engine_versions")
    def describe(self: Any) -> ActionResult:
        engine, version = self.params.get("Engine") or "postgres", self.params.get("EngineVersion") or ""
        family = self.params.get("DBParameterGroupFamily")
        found = [rds_catalogue.describe_version(v) for v in rds_catalogue.versions() if engine == "postgres"]
        found = [v for v in found if version in ("", v["EngineVersion"], v["MajorEngineVersion"])]
        found = [v for v in found if family in (None, v["DBParameterGroupFamily"])]
        if self.params.get("DefaultOnly"):
            default = rds_catalogue.resolve(version)
            found = [v for v in found if v["EngineVersion"] == default]
        return PaginatedResult({"DBEngineVersions": found})

    @wrap(models.RDSBackend, "create_db_instance")
    def create(original: Callable[..., Any], self: Any, db_kwargs: dict[str, Any]) -> Any:
        if db_kwargs.get("engine") == "postgres":
            wanted = db_kwargs.get("engine_version")
            version = rds_catalogue.resolve(wanted)
            if version is None:
                raise InvalidParameterCombination(f"Cannot find version {wanted} for postgres")
            db_kwargs["engine_version"] = version
        return original(self, db_kwargs)

    @wrap(models.RDSBackend, "modify_db_instance")
    def modify(original: Callable[..., Any], self: Any, db_instance_identifier: str, db_kwargs: dict[str, Any]) -> Any:
        if db_kwargs.get("engine_version"):
            instance = self.describe_db_instances(db_instance_identifier)[0]
            if instance.engine == "postgres":
                db_kwargs["engine_version"] = _upgrade(instance.engine_version, db_kwargs)
        return original(self, db_instance_identifier, db_kwargs)


def _upgrade(current: str, db_kwargs: dict[str, Any]) -> str:
    """Return the full version that an instance of version `current` gets, if RDS would take it there."""
    wanted = db_kwargs["engine_version"]
    version = rds_catalogue.resolve(wanted)
    if version is None or rds_catalogue.versions().index(version) < rds_catalogue.versions().index(current):
        raise InvalidParameterCombination(f"Cannot upgrade postgres from {current} to {wanted}")
    if version.split(".")[0] != current.split(".")[0] and not db_kwargs.get("allow_major_version_upgrade"):
        raise InvalidParameterCombination(
            "The AllowMajorVersionUpgrade flag must be present when upgrading to a new major version."
        )
    return version


@gap("rds", "orderable-options", "The instance classes and storage that can be ordered for PostgreSQL can be listed.")
def orderable_options() -> None:
    @wrap(models.RDSBackend, "describe_orderable_db_instance_options")
    def describe(original: Callable[..., Any], self: Any, engine: str, engine_version: str | None) -> list[Any]:
        if engine != "postgres":
            return original(self, engine, engine_version)
        zones = [z.name for z in ec2_backends[self.account_id][self.region_name].describe_availability_zones()]
        wanted = [v for v in rds_catalogue.versions() if engine_version in (None, "", v, v.split(".")[0])]
        return [option for version in wanted for option in rds_catalogue.orderable(version, zones)]

    @replace(RDSResponse, "describe_orderable_db_instance_options")
    def respond(self: Any) -> ActionResult:
        options = self.backend.describe_orderable_db_instance_options(
            self.params.get("Engine"), self.params.get("EngineVersion")
        )
        for parameter in ("DBInstanceClass", "LicenseModel", "Vpc"):
            wanted = self.params.get(parameter)
            options = [o for o in options if wanted in (None, o[parameter])]
        return PaginatedResult({"OrderableDBInstanceOptions": options})


@gap("rds", "instance-validation", "Wrong classes, storage sizes and passwords are refused.")
def instance_validation() -> None:
    @wrap(models.RDSBackend, "create_db_instance")
    def create(original: Callable[..., Any], self: Any, db_kwargs: dict[str, Any]) -> Any:
        if db_kwargs.get("engine") == "postgres" and not db_kwargs.get("db_cluster_identifier"):
            _check_class(db_kwargs["db_instance_class"], db_kwargs.get("engine_version"))
            _check_storage(db_kwargs.get("storage_type") or "gp2", db_kwargs.get("allocated_storage"))
            _check_password(db_kwargs.get("master_user_password"))
        return original(self, db_kwargs)


def _check_class(instance_class: str, version: str | None) -> None:
    if instance_class not in rds_catalogue.INSTANCE_CLASSES:
        raise InvalidParameterCombination(
            "RDS does not support creating a DB instance with the following combination: "
            f"DBInstanceClass={instance_class}, Engine=postgres, EngineVersion={version}, "
            "LicenseModel=postgresql-license. For supported combinations of instance class and database engine "
            "version, see the documentation."
        )


def _check_storage(storage_type: str, size: int | None) -> None:
    (smallest, largest), _ = rds_catalogue.STORAGE[storage_type]
    if size is None or not smallest <= int(size) <= largest:
        raise InvalidParameterValue(
            f"Invalid storage size for engine name postgres and storage type {storage_type}: {size}"
        )


def _check_password(password: str | None) -> None:
    if password is not None and len(password) not in PASSWORD_LENGTHS:
        relation = "shorter than 8" if len(password) < PASSWORD_LENGTHS.start else "longer than 128"
        raise InvalidParameterValue(
            f"The parameter MasterUserPassword is not a valid password because it is {relation} characters."
        )


@gap(
    "rds", "parameter-groups", "A parameter group is of a known family and has its parameters; a missing one is named."
)
def parameter_groups() -> None:
    @wrap(models.DBParameterGroup, "__init__")
    def init(
        original: Callable[..., Any],
        self: Any,
        backend: Any,
        db_parameter_group_name: str,
        description: str,
        db_parameter_group_family: str | None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        original(self, backend, db_parameter_group_name, description, db_parameter_group_family, *args, **kwargs)
        if db_parameter_group_family in rds_catalogue.families():
            self.parameters.update(rds_catalogue.parameters(db_parameter_group_family))

    @before(RDSResponse, "create_db_parameter_group")
    def check_family(self: Any) -> None:
        family = self.params.get("DBParameterGroupFamily")
        if family.startswith("postgres") and family not in rds_catalogue.families():
            raise InvalidParameterValue(f"ParameterGroupFamily {family} is not a valid parameter group family")

    @wrap(models.DBParameterGroup, "update_parameters")
    def update(original: Callable[..., Any], self: Any, new_parameters: Any) -> None:
        new_parameters = list(new_parameters)
        known = self.parameters.keys()
        unknown = [p["ParameterName"] for p in new_parameters if known and p["ParameterName"] not in known]
        if unknown:
            raise InvalidParameterValue(f"Could not find parameter with name: {unknown[0]}")
        original(self, [{**p, "Source": "user"} for p in new_parameters])

    @wrap(RDSResponse, "describe_db_parameter_groups")
    def describe_groups(original: Callable[..., Any], self: Any) -> ActionResult:
        name = self.params.get("DBParameterGroupName")
        if name and name not in self.backend.db_parameter_groups:
            raise DBParameterGroupNotFoundError(name)
        return original(self)

    @replace(RDSResponse, "describe_db_parameters")
    def describe(self: Any) -> ActionResult:
        name, source = self.params.get("DBParameterGroupName"), self.params.get("Source")
        if name not in self.backend.db_parameter_groups:
            raise DBParameterGroupNotFoundError(name)
        parameters = self.backend.db_parameter_groups[name].parameters.values()
        return PaginatedResult({"Parameters": [p for p in parameters if source in (None, p.get("Source"))]})


@gap("rds", "dependencies", "A subnet group or parameter group of an instance cannot be deleted.")
def dependencies() -> None:
    @wrap(models.RDSBackend, "delete_subnet_group")
    def delete_subnet_group(original: Callable[..., Any], self: Any, subnet_name: str) -> Any:
        users = [d.db_instance_identifier for d in self.databases.values() if d._db_subnet_group_name == subnet_name]
        if users:
            raise RDSClientError(
                "InvalidDBSubnetGroupStateFault",
                f"Cannot delete the subnet group '{subnet_name}' because at least one database instance: "
                f"{users[0]} is still using it.",
            )
        return original(self, subnet_name)

    @wrap(models.RDSBackend, "delete_db_parameter_group")
    def delete_parameter_group(original: Callable[..., Any], self: Any, db_parameter_group_name: str) -> Any:
        if any(d.db_parameter_group_name == db_parameter_group_name for d in self.databases.values()):
            raise RDSClientError(
                "InvalidDBParameterGroupState",
                "One or more database instances are still members of this parameter group "
                f"{db_parameter_group_name}, so the group cannot be deleted",
            )
        return original(self, db_parameter_group_name)


@gap("rds", "final-snapshot", "An instance is deleted only with a final snapshot, or with the word to skip it.")
def final_snapshot() -> None:
    @before(RDSResponse, "delete_db_instance")
    def check(self: Any) -> None:
        name, skip = self.params.get("FinalDBSnapshotIdentifier"), self.params.get("SkipFinalSnapshot")
        if not skip and not name:
            raise InvalidParameterCombination(
                "FinalDBSnapshotIdentifier is required unless SkipFinalSnapshot is specified."
            )
        if skip and name:
            raise InvalidParameterCombination(
                "FinalDBSnapshotIdentifier can not be specified when deleting with SkipFinalSnapshot."
            )


@gap("rds", "network-interface", "An instance holds a network interface in its subnets, with its security groups.")
def network_interface() -> None:
    # Not attributes of the instances: moto copies all of those when it restores one.
    held: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()

    @wrap(models.RDSBackend, "create_db_instance")
    def create(original: Callable[..., Any], self: Any, db_kwargs: dict[str, Any]) -> Any:
        instance = original(self, db_kwargs)
        if instance._db_subnet_group_name:
            backend = ec2_backends[self.account_id][self.region_name]
            subnet = instance.db_subnet_group._subnets[0].id
            held[instance] = [hold(backend, subnet, instance.vpc_security_group_ids, "RDSNetworkInterface")]
        return instance

    @wrap(models.RDSBackend, "modify_db_instance")
    def modify(original: Callable[..., Any], self: Any, db_instance_identifier: str, db_kwargs: dict[str, Any]) -> Any:
        instance = original(self, db_instance_identifier, db_kwargs)
        backend = ec2_backends[self.account_id][self.region_name]
        for interface in held.get(instance, []):
            interface._group_set = [backend.get_security_group_from_id(g) for g in instance.vpc_security_group_ids]
        return instance

    @wrap(models.RDSBackend, "delete_db_instance")
    def delete(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> Any:
        instance = original(self, *args, **kwargs)
        release(held.pop(instance, []))
        return instance
