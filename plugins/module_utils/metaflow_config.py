# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The pure part of ``metaflow_config``: what Metaflow's client reads, and what a configuration file becomes.

Metaflow takes a value from the environment, else from this file, else its default, and reads it the same way from
either (``metaflow/metaflow_config_funcs.py``, 2.19). So all values are written as text, maps as JSON in text: a
map that is not text is taken for a default, and a number where a bool is expected ends the client.
"""

from __future__ import annotations

import difflib
import json
import re
from pathlib import PurePath
from urllib.parse import urlsplit

from ansible_collections.mlops.metaflow.plugins.module_utils.diff import MASK

PREFIX = "METAFLOW_"

#: The key that lists the keys we wrote. Metaflow asks the file for the keys it knows and never sees this one.
MANAGED = "_managed_by_ansible"

#: The keys that Metaflow 2.19.39 reads, without the prefix (tests/unit/test_metaflow_keys.py compares).
_KNOWN_KEYS = """
    AIRFLOW_KUBERNETES_CONN_ID AIRFLOW_KUBERNETES_KUBECONFIG_CONTEXT AIRFLOW_KUBERNETES_KUBECONFIG_FILE
    AIRFLOW_KUBERNETES_STARTUP_TIMEOUT_SECONDS ARGO_EVENTS_EVENT ARGO_EVENTS_EVENT_BUS ARGO_EVENTS_EVENT_SOURCE
    ARGO_EVENTS_INTERNAL_WEBHOOK_URL ARGO_EVENTS_SENSOR_NAMESPACE ARGO_EVENTS_SERVICE_ACCOUNT ARGO_EVENTS_WEBHOOK_AUTH
    ARGO_EVENTS_WEBHOOK_URL ARGO_WORKFLOWS_CAPTURE_ERROR_SCRIPT ARGO_WORKFLOWS_ENV_VARS_TO_SKIP
    ARGO_WORKFLOWS_KUBERNETES_SECRETS ARGO_WORKFLOWS_UI_URL ARGO_WORKFLOWS_USE_SCHEDULES ARTIFACT_LOCALROOT
    AWS_SANDBOX_API_KEY AWS_SANDBOX_ENABLED AWS_SANDBOX_INTERNAL_SERVICE_URL AWS_SANDBOX_REGION AWS_SANDBOX_STACK_NAME
    AWS_SECRETS_MANAGER_DEFAULT_REGION AWS_SECRETS_MANAGER_DEFAULT_ROLE AZURE_KEY_VAULT_PREFIX
    AZURE_STORAGE_BLOB_SERVICE_ENDPOINT AZURE_STORAGE_WORKLOAD_TYPE BATCH_CONTAINER_IMAGE BATCH_CONTAINER_REGISTRY
    BATCH_DEFAULT_TAGS BATCH_EMIT_TAGS BATCH_JOB_QUEUE CARD_AZUREROOT CARD_GSROOT CARD_LOCALROOT CARD_NO_WARNING
    CARD_S3ROOT CLICK_API_PROCESS_CONFIG CLIENT_CACHE_MAX_FLOWDATASTORE_COUNT CLIENT_CACHE_MAX_SIZE
    CLIENT_CACHE_MAX_TASKDATASTORE_COUNT CLIENT_CACHE_PATH CONDA_DEPENDENCY_RESOLVER CONDA_PACKAGE_AZUREROOT
    CONDA_PACKAGE_GSROOT CONDA_PACKAGE_S3ROOT CONDA_USE_FAST_INIT CONSOLE_TRACE_ENABLED CONTACT_INFO
    DATASTORE_SYSROOT_AZURE DATASTORE_SYSROOT_GS DATASTORE_SYSROOT_LOCAL DATASTORE_SYSROOT_S3 DATASTORE_SYSROOT_SPIN
    DATATOOLS_AZUREROOT DATATOOLS_CLIENT_PARAMS DATATOOLS_GSROOT DATATOOLS_LOCALROOT DATATOOLS_S3ROOT
    DATATOOLS_SESSION_VARS DATATOOLS_SUFFIX DEBUG_CONDA DEBUG_PACKAGE DEBUG_S3CLIENT DEBUG_SIDECAR DEBUG_STUBGEN
    DEBUG_SUBCOMMAND DEBUG_TRACING DEBUG_USERCONF DEFAULT_AWS_CLIENT_PROVIDER DEFAULT_AZURE_CLIENT_PROVIDER
    DEFAULT_CONTAINER_IMAGE DEFAULT_CONTAINER_REGISTRY DEFAULT_DATASTORE DEFAULT_DECOSPECS DEFAULT_ENVIRONMENT
    DEFAULT_EVENT_LOGGER DEFAULT_FROM_DEPLOYMENT_IMPL DEFAULT_GCP_CLIENT_PROVIDER DEFAULT_METADATA DEFAULT_MONITOR
    DEFAULT_PACKAGE_SUFFIXES DEFAULT_RUNTIME_LIMIT DEFAULT_SECRETS_BACKEND_TYPE DEFAULT_SECRETS_ROLE
    ECS_FARGATE_EXECUTION_ROLE ECS_S3_ACCESS_IAM_ROLE ENABLED_AWS_CLIENT_PROVIDER ENABLED_AZURE_CLIENT_PROVIDER
    ENABLED_CLI ENABLED_CMD ENABLED_DATACLIENT ENABLED_DATASTORE ENABLED_DEPLOYER_IMPL_PROVIDER ENABLED_ENVIRONMENT
    ENABLED_FLOW_DECORATOR ENABLED_GCP_CLIENT_PROVIDER ENABLED_INTEGRATION_ALIAS ENABLED_LOGGING_SIDECAR
    ENABLED_METADATA_PROVIDER ENABLED_MONITOR_SIDECAR ENABLED_RUNNER_CLI ENABLED_SECRETS_PROVIDER ENABLED_SIDECAR
    ENABLED_STEP_DECORATOR ENABLED_TL_PLUGIN ESCAPE_HATCH_WARNING EVENTS_SFN_ACCESS_IAM_ROLE
    FEAT_ALWAYS_UPLOAD_CODE_PACKAGE GCP_SECRET_MANAGER_PREFIX GS_STORAGE_WORKLOAD_TYPE INCLUDE_FOREACH_STACK
    KUBERNETES_ANNOTATIONS KUBERNETES_CONDA_ARCH KUBERNETES_CONTAINER_IMAGE KUBERNETES_CONTAINER_REGISTRY KUBERNETES_CPU
    KUBERNETES_DISK KUBERNETES_FETCH_EC2_METADATA KUBERNETES_GPU_VENDOR KUBERNETES_IMAGE_PULL_POLICY
    KUBERNETES_IMAGE_PULL_SECRETS KUBERNETES_JOBSET_GROUP KUBERNETES_JOBSET_VERSION KUBERNETES_JOB_TERMINATE_MODE
    KUBERNETES_JOB_TTL_SECONDS_AFTER_FINISHED KUBERNETES_LABELS KUBERNETES_MEMORY KUBERNETES_NAMESPACE
    KUBERNETES_NODE_SELECTOR KUBERNETES_PERSISTENT_VOLUME_CLAIMS KUBERNETES_PORT KUBERNETES_QOS
    KUBERNETES_SANDBOX_INIT_SCRIPT KUBERNETES_SECRETS KUBERNETES_SERVICE_ACCOUNT KUBERNETES_SHARED_MEMORY
    KUBERNETES_TOLERATIONS MAXIMUM_FOREACH_VALUE_CHARS NAMESPACED_EVENTS_PREFIX OTEL_ENDPOINT OTEL_SERVICE_NAME
    PROFILE_FROM_START RUNTIME_CARD_RENDER_INTERVAL S3_CLIENT_RETRY_CONFIG S3_ENDPOINT_URL S3_LOG_TRANSIENT_RETRIES
    S3_RETRY_COUNT S3_SERVER_SIDE_ENCRYPTION S3_TRANSIENT_RETRY_COUNT S3_VERIFY_CERTIFICATE S3_WORKER_COUNT
    SERVICE_AUTH_KEY SERVICE_HEADERS SERVICE_INTERNAL_URL SERVICE_RETRY_COUNT SERVICE_URL SERVICE_VERSION_CHECK
    SFN_COMPRESS_STATE_MACHINE SFN_DYNAMO_DB_TABLE SFN_EXECUTION_LOG_GROUP_ARN SFN_IAM_ROLE
    SFN_S3_DISTRIBUTED_MAP_OUTPUT_PATH SFN_STATE_MACHINE_PREFIX SPIN_ALLOWED_DECORATORS SPIN_DISALLOWED_DECORATORS
    SPIN_PERSIST TEMPDIR UI_URL USER ZIPKIN_ENDPOINT
"""
KNOWN_KEYS = frozenset(_KNOWN_KEYS.split())

#: Keys that name the file itself, so that Metaflow can only take them from the environment.
ENVIRONMENT_ONLY = frozenset({"HOME", "PROFILE"})

# Free maps that reach the service or boto3 as they are and may carry a key or AWS credentials.
_SECRET = re.compile(
    r"(^|_)(KEY|TOKEN|PASSWORD|SECRET|CREDENTIALS?)$|_(SERVICE_HEADERS|DATATOOLS_CLIENT_PARAMS|DATATOOLS_SESSION_VARS)$"
)
_URL_WITH_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]*@")


_KEEPS = "; it stays as it is. Mend it, or move it away."


class ConfigError(Exception):
    """A configuration that cannot be used; the text says what is wrong and where."""


def file_name(profile):
    """Return the name of a profile's file; None is Metaflow's default profile."""
    return f"config_{profile}.json" if profile else "config.json"


def parse(content, path):
    """Return the configuration in ``content``.

    :param bytes content: the file as it lies on the disk.
    :param path: the file's path, for messages.
    :raises ConfigError: names line and column of what is no JSON object, and never shows the content.
    """
    try:
        config = json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8")
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        raise ConfigError(f"{path} is not UTF-8 (line {line}, column {column}){_KEEPS}") from error
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path} is not JSON (line {error.lineno}, column {error.colno}: {error.msg}){_KEEPS}"
        ) from error
    except (ValueError, RecursionError) as error:  # an endless number, endless nesting
        raise ConfigError(f"{path} is beyond what Python reads as JSON ({type(error).__name__}){_KEEPS}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path} holds a JSON {type(config).__name__} and no object (line 1, column 1){_KEEPS}")
    managed = config.get(MANAGED, [])
    if not isinstance(managed, list) or not all(isinstance(key, str) for key in managed):
        raise ConfigError(f"{path} has a {MANAGED} that is no list of keys{_KEEPS}")
    return config


def serialised(config):
    """Return the text of a file, laid out as ``metaflow configure`` does."""
    return json.dumps(config, indent=4, sort_keys=True) + "\n"


def rendered(value):
    """Return ``value`` as the text that Metaflow reads back as the same; None stays None."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True)


def plan(live, declared, purge=False):
    """Return the configuration that the file should hold.

    - What is declared is set; declared None is removed, whoever wrote it.
    - What an earlier run of ours wrote and is no longer declared is removed.
    - Other keys are a person's: kept, unless ``purge``.

    :param live: the parsed file, None where there is none.
    :param dict declared: map of key to text or None.
    """
    live = live or {}
    ours = set(live.get(MANAGED, ())) | set(declared) | {MANAGED}
    kept = {} if purge else {key: value for key, value in live.items() if key not in ours}
    wanted = {key: value for key, value in declared.items() if value is not None}
    # A person's `true` and our "true" are one value: leave the spelling that is there.
    same = {key: live[key] for key, value in wanted.items() if rendered(live.get(key)) == value}
    return {**kept, **wanted, **same, MANAGED: sorted(wanted)}


def plan_absent(live):
    """Return what stays when our keys go; None where nothing is left, or nothing was there."""
    if live is None or MANAGED not in live:
        return live
    ours = {*live[MANAGED], MANAGED}
    return {key: value for key, value in live.items() if key not in ours} or None


def is_secret(key, value=None):
    """Tell whether nobody may see the value: by the key's name, or a password in a URL."""
    return bool(_SECRET.search(key) or _URL_WITH_PASSWORD.search(str(value)))


def secrets_in(config):
    """Return the set of the texts in ``config`` that nobody may see."""
    return {rendered(value) for key, value in config.items() if is_secret(key, value) and value not in (None, "")}


def shown_change(before, after):
    """Return ``(before, after)`` reduced to the keys that differ, secrets masked."""
    keys = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    shown = [
        {key: MASK if is_secret(key, config[key]) else config[key] for key in keys if key in config}
        for config in (before, after)
    ]
    for key in keys:
        if shown[0].get(key) == shown[1].get(key) == MASK:
            shown[1][key] = "(another secret)"
    return tuple(shown)


def _is_url(value):
    try:
        url = urlsplit(value)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and "@" not in url.netloc
    except ValueError:  # a port that is no number, half an IPv6 address
        return False


def _is_map(value):
    try:
        return isinstance(json.loads(value), dict)
    except json.JSONDecodeError:
        return False


def _matches(pattern):
    return lambda value: re.fullmatch(pattern, value, re.ASCII) is not None


_ARN = r"arn:aws[a-z-]*"

#: What the values of some keys must look like: (keys, test, the words for it).
FORMS = (
    (
        "SERVICE_URL SERVICE_INTERNAL_URL S3_ENDPOINT_URL UI_URL ARGO_WORKFLOWS_UI_URL ARGO_EVENTS_WEBHOOK_URL "
        "ARGO_EVENTS_INTERNAL_WEBHOOK_URL",
        lambda value: not re.search(r"\s", value) and _is_url(value),
        "a URL like https://host/path, without user and password",
    ),
    (
        "DATASTORE_SYSROOT_S3 DATATOOLS_S3ROOT CARD_S3ROOT CONDA_PACKAGE_S3ROOT SFN_S3_DISTRIBUTED_MAP_OUTPUT_PATH",
        _matches(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/\S*)?"),
        "an S3 address like s3://bucket/prefix",
    ),
    (
        "ECS_S3_ACCESS_IAM_ROLE ECS_FARGATE_EXECUTION_ROLE SFN_IAM_ROLE EVENTS_SFN_ACCESS_IAM_ROLE "
        "DEFAULT_SECRETS_ROLE AWS_SECRETS_MANAGER_DEFAULT_ROLE",
        _matches(_ARN + r":iam::\d{12}:role/[\w+=,.@/-]+"),
        "the ARN of an IAM role, arn:aws:iam::123456789012:role/name",
    ),
    (
        "SFN_EXECUTION_LOG_GROUP_ARN",
        _matches(_ARN + r":logs:[a-z0-9-]+:\d{12}:log-group:[\w./#-]+:\*"),
        "the ARN of a log group that ends in ':*', as Step Functions wants it",
    ),
    (
        "BATCH_JOB_QUEUE",
        _matches(rf"({_ARN}:batch:[a-z0-9-]+:\d{{12}}:job-queue/)?[A-Za-z0-9][\w-]{{0,127}}"),
        "the name or the ARN of a Batch job queue",
    ),
    ("SFN_DYNAMO_DB_TABLE", _matches(r"[\w.-]{3,255}"), "the name of a DynamoDB table"),
    ("SFN_STATE_MACHINE_PREFIX", _matches(r"[\w-]+"), "a prefix of letters, digits, '-' and '_'"),
    ("S3_SERVER_SIDE_ENCRYPTION", _matches(r"AES256|aws:kms(:dsse)?"), "one of AES256, aws:kms, aws:kms:dsse"),
    ("SERVICE_AUTH_KEY", _matches(r"\S+"), "a key without blanks, as it stands in an HTTP header"),
    (
        "SERVICE_RETRY_COUNT S3_RETRY_COUNT S3_TRANSIENT_RETRY_COUNT S3_WORKER_COUNT CLIENT_CACHE_MAX_SIZE "
        "DEFAULT_RUNTIME_LIMIT MAXIMUM_FOREACH_VALUE_CHARS RUNTIME_CARD_RENDER_INTERVAL",
        _matches(r"\d+"),
        "a whole number",
    ),
    (
        "BATCH_DEFAULT_TAGS SERVICE_HEADERS CONTACT_INFO DATATOOLS_CLIENT_PARAMS DATATOOLS_SESSION_VARS "
        "S3_CLIENT_RETRY_CONFIG",
        _is_map,
        "a map",
    ),
)
_FORM_OF = {PREFIX + key: (test, words) for keys, test, words in FORMS for key in keys.split()}


def value_problems(declared):
    """Return a sentence for each declared key that can't be in the file and each value of a wrong form."""
    problems = []
    for key, value in declared.items():
        name = key.removeprefix(PREFIX)
        if name == key or not re.fullmatch(r"[A-Z0-9_]+", name):
            problems.append(f"{key} is no key of Metaflow's configuration; its keys begin with {PREFIX}, in capitals.")
        elif name in ENVIRONMENT_ONLY:
            problems.append(
                f"{key} chooses the file, so Metaflow reads it from the environment only; use home, profile."
            )
        elif value is not None and key in _FORM_OF:
            test, words = _FORM_OF[key]
            if not test(value):
                shown = MASK if is_secret(key, value) else f"'{value}'"
                problems.append(f"{key} is {shown}, and must be {words}.")
    return problems


def whole_problems(config):
    """Return a sentence for each pair of keys in the whole configuration that Metaflow can't work with."""
    return [
        f"{PREFIX}{key} is '{value}', which needs {PREFIX}{needed}; it is missing or empty."
        for key, value, needed in (
            ("DEFAULT_METADATA", "service", "SERVICE_URL"),
            ("DEFAULT_DATASTORE", "s3", "DATASTORE_SYSROOT_S3"),
        )
        if config.get(PREFIX + key) == value and not config.get(PREFIX + needed)
    ]


def unknown_keys(declared, known=KNOWN_KEYS):
    """Return the declared keys (None apart) that are not among ``known`` (without prefix)."""
    return sorted(key for key, value in declared.items() if value is not None and key.removeprefix(PREFIX) not in known)


def unknown_message(key):
    """Return the sentence for a key that Metaflow doesn't read, with the one that was probably meant."""
    close = difflib.get_close_matches(key, [PREFIX + known for known in KNOWN_KEYS], n=1, cutoff=0.85)
    return f"{key} is no key that Metaflow reads" + (f"; did you mean {close[0]}?" if close else ".")


def path_of(home, profile):
    """Return the path of a profile's file below ``home`` (an absolute path) as text."""
    return str(PurePath(home) / file_name(profile))
