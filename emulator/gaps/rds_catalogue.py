"""What RDS offers for PostgreSQL: versions, instance classes, storage and parameters, as data.

Sources: the release calendar and the instance classes of the RDS user guide
(https://docs.aws.amazon.com/AmazonRDS/latest/PostgreSQLReleaseNotes/postgresql-release-calendar.html,
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Concepts.DBInstanceClass.html); a sample that the stack can
choose from, not the whole offer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MINOR_VERSIONS = {
    14: (18, 19, 20),
    15: (13, 14, 15),
    16: (9, 10, 11),
    17: (5, 6, 7),
    18: (1,),
}
DEFAULT_MAJOR_VERSION = 17

INSTANCE_CLASSES = [
    *(f"db.{family}.{size}" for family in ("t3", "t4g") for size in ("micro", "small", "medium", "large", "xlarge")),
    *(
        f"db.{family}.{size}"
        for family in ("m6g", "m6i", "m7g", "r6g", "r6i", "r7g")
        for size in ("large", "xlarge", "2xlarge", "4xlarge", "8xlarge")
    ),
]

# storage type: (smallest, largest) in GiB, (smallest, largest) IOPS
STORAGE = {
    "gp2": ((20, 65536), None),
    "gp3": ((20, 65536), (3000, 64000)),
    "io1": ((100, 65536), (1000, 256000)),
    "io2": ((100, 65536), (1000, 256000)),
}

# name: (default, data type, allowed values, apply type, description); None: the engine's own default
PARAMETERS: dict[str, tuple[str | None, str, str, str, str]] = {
    "autovacuum": (None, "boolean", "0,1", "dynamic", "Starts the autovacuum subprocess."),
    "effective_cache_size": (
        "{DBInstanceClassMemory/16384}", "integer", "1-2147483647", "dynamic", "Assumption about the disk cache.",
    ),
    "idle_in_transaction_session_timeout": (
        "86400000", "integer", "0-2147483647", "dynamic", "Longest idle time in a transaction, ms.",
    ),
    "log_connections": (None, "boolean", "0,1", "dynamic", "Logs each successful connection."),
    "log_disconnections": (None, "boolean", "0,1", "dynamic", "Logs the end of a session."),
    "log_min_duration_statement": (
        None, "integer", "-1-2147483647", "dynamic", "Logs statements that run at least this long, ms.",
    ),
    "log_statement": (None, "string", "none,ddl,mod,all", "dynamic", "Sets the type of statements logged."),
    "maintenance_work_mem": (
        "GREATEST({DBInstanceClassMemory*1024/63963136},65536)", "integer", "1024-2147483647", "dynamic",
        "Memory for maintenance operations, kB.",
    ),
    "max_connections": (
        "LEAST({DBInstanceClassMemory/9531392},5000)", "integer", "6-262143", "static",
        "Largest number of concurrent connections.",
    ),
    "password_encryption": (None, "string", "md5,scram-sha-256", "dynamic", "Encryption of passwords."),
    "rds.force_ssl": ("1", "boolean", "0,1", "dynamic", "Force SSL connections."),
    "rds.logical_replication": ("0", "boolean", "0,1", "static", "Enables logical decoding."),
    "rds.log_retention_period": ("4320", "integer", "1440-10080", "dynamic", "Minutes for which logs are kept."),
    "shared_buffers": (
        "{DBInstanceClassMemory/32768}", "integer", "16-1073741823", "static", "Shared memory buffers, 8 kB each.",
    ),
    "shared_preload_libraries": (
        "pg_stat_statements", "list", "auto_explain,pg_cron,pg_hint_plan,pg_stat_statements,pgaudit", "static",
        "Libraries to preload into the server.",
    ),
    "ssl_min_protocol_version": (
        None, "string", "TLSv1,TLSv1.1,TLSv1.2,TLSv1.3", "dynamic", "Lowest TLS version.",
    ),
    "statement_timeout": (None, "integer", "0-2147483647", "dynamic", "Longest time of a statement, ms."),
    "timezone": ("UTC", "string", "UTC", "dynamic", "Time zone of the displayed time stamps."),
    "work_mem": (None, "integer", "64-2147483647", "dynamic", "Memory for query workspaces, kB."),
}  # fmt: skip
FORCE_SSL_SINCE = 15  # older versions accept plain connections unless told otherwise


def versions() -> list[str]:
    """Return all versions, oldest first."""
    return [f"{major}.{minor}" for major, minors in MINOR_VERSIONS.items() for minor in minors]


def default_version(major: int = DEFAULT_MAJOR_VERSION) -> str:
    """Return the version that a major one stands for."""
    return f"{major}.{MINOR_VERSIONS[major][-1]}"


def resolve(version: str | None) -> str | None:
    """Return the full version of what a caller asks for (`17`, `17.6`, nothing), or None when there is no such one."""
    if not version:
        return default_version()
    if version.isdigit() and int(version) in MINOR_VERSIONS:
        return default_version(int(version))
    return version if version in versions() else None


def families() -> list[str]:
    """Return the parameter group families."""
    return [f"postgres{major}" for major in MINOR_VERSIONS]


def describe_version(version: str) -> dict[str, Any]:
    """Return a version as DescribeDBEngineVersions shows it."""
    major = version.split(".")[0]
    later = versions()[versions().index(version) + 1 :]
    return {
        "Engine": "postgres",
        "MajorEngineVersion": major,
        "EngineVersion": version,
        "DBParameterGroupFamily": f"postgres{major}",
        "DBEngineDescription": "PostgreSQL",
        "DBEngineVersionDescription": f"PostgreSQL {version}-R1",
        "ValidUpgradeTarget": [
            {
                "Engine": "postgres",
                "EngineVersion": target,
                "Description": f"PostgreSQL {target}-R1",
                "AutoUpgrade": target == default_version(int(major)),
                "IsMajorVersionUpgrade": target.split(".")[0] != major,
            }
            for target in later
        ],
        "ExportableLogTypes": ["postgresql", "upgrade"],
        "SupportsLogExportsToCloudwatchLogs": True,
        "SupportsReadReplica": True,
        "SupportsParallelQuery": False,
        "SupportsGlobalDatabases": False,
        "Status": "available",
    }


def orderable(version: str, zones: list[str]) -> Iterator[dict[str, Any]]:
    """Yield what can be ordered for a version: each instance class with each type of storage."""
    for instance_class in INSTANCE_CLASSES:
        for storage, ((smallest, largest), iops) in STORAGE.items():
            yield {
                "Engine": "postgres",
                "EngineVersion": version,
                "DBInstanceClass": instance_class,
                "LicenseModel": "postgresql-license",
                "AvailabilityZones": [{"Name": zone} for zone in zones],
                "MultiAZCapable": True,
                "ReadReplicaCapable": True,
                "Vpc": True,
                "SupportsStorageEncryption": True,
                "StorageType": storage,
                "SupportsIops": iops is not None,
                "MinIopsPerDbInstance": iops and iops[0],
                "MaxIopsPerDbInstance": iops and iops[1],
                "MinStorageSize": smallest,
                "MaxStorageSize": largest,
                "SupportsEnhancedMonitoring": True,
                "SupportsIAMDatabaseAuthentication": True,
                "SupportsPerformanceInsights": True,
                "SupportsStorageAutoscaling": True,
                "SupportsKerberosAuthentication": True,
                "OutpostCapable": False,
                "SupportsGlobalDatabases": False,
                "SupportsClusters": False,
                "SupportedNetworkTypes": ["IPV4", "DUAL"],
            }


def parameters(family: str) -> dict[str, dict[str, Any]]:
    """Return the parameters of a new group of a family, as DescribeDBParameters shows them."""
    result = {}
    for name, (default, data_type, allowed, apply_type, description) in PARAMETERS.items():
        if name == "rds.force_ssl" and int(family.removeprefix("postgres")) < FORCE_SSL_SINCE:
            default = "0"
        result[name] = {
            "ParameterName": name,
            "ParameterValue": default,
            "Description": description,
            "Source": "engine-default" if default is None else "system",
            "ApplyType": apply_type,
            "DataType": data_type,
            "AllowedValues": allowed,
            "IsModifiable": True,
            "ApplyMethod": "pending-reboot",
        }
    return result
