# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What we ask an installed Metaflow, in its own interpreter.

:func:`ask` hands this file's own text to that interpreter, where it runs as a script: Metaflow may be installed for
another Python than Ansible's, and it reads its configuration once, while it is imported. So the part below "In
Metaflow's interpreter" uses the standard library and Metaflow alone.
"""

from __future__ import annotations

import inspect
import json
import os
import signal
import sys


class ProbeError(Exception):
    """Metaflow couldn't be asked, or its answer is bad; ``kind`` says which (see :func:`main`)."""

    def __init__(self, kind, detail):
        super().__init__(detail)
        self.kind = kind


def ask(module, python, question, home="", profile=None, timeout=30, **details):
    """Return what ``question`` ("keys", "verify" or "latest_run") gives.

    :param module: an AnsibleModule, which runs the command.
    :param str python: the interpreter that Metaflow is installed for.
    :param str home: METAFLOW_HOME; empty means "no configuration".
    :param int timeout: seconds; then the probe is ended. Metaflow itself waits for a silent service for ever.
    :param details: what the question is about: ``flow`` and ``tags`` for "latest_run".
    :raises ProbeError: with the kinds ``python``, ``timeout``, ``metaflow``, ``config``, ``refused``, ``unreachable``,
        ``service``, ``local`` and ``datastore``.
    """
    request = json.dumps({"question": question, "home": home, "profile": profile, "timeout": timeout, **details})
    source = inspect.getsource(sys.modules[__name__])
    try:
        # From "/" no `.metaflow/config.json` of the working directory has a say.
        code, out, err = module.run_command(
            [python, "-c", source, request], cwd="/", expand_user_and_vars=False, handle_exceptions=False
        )
    except OSError as error:
        raise ProbeError("python", error.strerror) from error
    if code == -signal.SIGALRM:
        raise ProbeError("timeout", f"no answer in {timeout} s")
    lines = out.splitlines()
    if code != 0 or not lines:
        raise ProbeError("python", (err.strip().splitlines() or [f"exit status {code}"])[-1])
    answer = json.loads(lines[-1])
    if "kind" in answer:
        raise ProbeError(answer["kind"], answer["detail"])
    return answer


# In Metaflow's interpreter


def main():
    """Print one line of JSON: the answer, or ``kind`` and ``detail`` of what went wrong."""
    request = json.loads(sys.argv[1])
    signal.alarm(request["timeout"])
    _set_environment(request["home"], request["profile"])
    try:
        answer = QUESTIONS[request["question"]](request)
    except ProbeError as error:
        answer = {"kind": error.kind, "detail": str(error)}
    print(json.dumps(answer))


def _set_environment(home, profile):
    """Leave only the file to speak: Metaflow takes any METAFLOW_* variable before it."""
    for name in [name for name in os.environ if name.startswith("METAFLOW_")]:
        del os.environ[name]
    os.environ["METAFLOW_HOME"] = home or os.devnull
    if profile:
        os.environ["METAFLOW_PROFILE"] = profile
    # Metaflow waits 1, 2, 4 … s between attempts: two are 1 s.
    os.environ["METAFLOW_SERVICE_RETRY_COUNT"] = "2"


def _import_metaflow():
    try:
        import metaflow
    except ImportError as error:
        raise ProbeError("metaflow", str(error)) from error
    except Exception as error:  # what Metaflow raises for a configuration that it can't use
        raise ProbeError("config", str(error)) from error
    return metaflow


def known_keys(_request):
    """Return the keys that this Metaflow, with its extensions, reads (with the prefix)."""
    _import_metaflow()
    from metaflow.metaflow_config_funcs import config_values

    everything = 3  # those without a value and those with the default too
    return {"keys": sorted(name for name, _ in config_values(everything))}


def verify(_request):
    """Ask the metadata service and the datastore root of the configuration as a person's client would."""
    metaflow = _import_metaflow()
    from metaflow import metaflow_config as config

    if config.DEFAULT_METADATA != "service":
        raise ProbeError("local", config.DEFAULT_METADATA)
    return {
        "metaflow_version": metaflow.__version__,
        "service_url": config.SERVICE_URL,
        **_service(metaflow),
        "datastore": config.DEFAULT_DATASTORE,
        "datastore_root": _datastore(config),
    }


def _service(metaflow):
    from metaflow.plugins.metadata_providers.service import ServiceException, ServiceMetadataProvider

    try:
        version = ServiceMetadataProvider._version(None)
        if version is None:
            raise ProbeError("service", "its answer to /ping names no version")
        metaflow.namespace(None)
        flows = len(metaflow.Metaflow().flows)
    except ServiceException as error:
        refused = error.http_code in (401, 403)
        raise ProbeError("refused" if refused else "service", str(error)) from error
    except ValueError as error:  # an answer that is no JSON
        raise ProbeError("service", str(error)) from error
    except OSError as error:  # requests' exceptions for a connection that fails
        raise ProbeError("unreachable", str(error)) from error
    return {"service_version": version, "flows": flows}


def _datastore(config):
    """Return the datastore's root; look at the first object below it where it is in S3."""
    if config.DEFAULT_DATASTORE != "s3":
        return getattr(config, "DATASTORE_SYSROOT_" + config.DEFAULT_DATASTORE.upper(), None)
    from botocore.exceptions import BotoCoreError, ClientError
    from metaflow.plugins.datatools.s3.s3util import get_s3_client

    bucket, _, prefix = config.DATASTORE_SYSROOT_S3.removeprefix("s3://").partition("/")
    try:
        client, _ = get_s3_client()
        client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
    except (BotoCoreError, ClientError) as error:
        raise ProbeError("datastore", f"{config.DATASTORE_SYSROOT_S3}: {error}") from error
    return config.DATASTORE_SYSROOT_S3


def latest_run(request):
    """Return the latest successful run of ``flow`` that has all ``tags``, read through the client API, or None."""
    metaflow = _import_metaflow()
    from metaflow.exception import MetaflowNotFound
    from metaflow.plugins.metadata_providers.service import ServiceException

    metaflow.namespace(None)
    try:
        runs = metaflow.Flow(request["flow"]).runs(*request["tags"])
        run = next((run for run in runs if run.successful), None)
    except MetaflowNotFound:
        run = None
    except ServiceException as error:
        raise ProbeError("service", str(error)) from error
    if run is None:
        return {"run": None}
    steps = {step.id: sum(1 for _ in step) for step in run}
    artifacts = sorted(artifact.id for artifact in run.end_task)
    return {
        "run": {"pathspec": run.pathspec, "finished_at": str(run.finished_at), "steps": steps, "artifacts": artifacts}
    }


QUESTIONS = {"keys": known_keys, "verify": verify, "latest_run": latest_run}

if __name__ == "__main__":
    main()
