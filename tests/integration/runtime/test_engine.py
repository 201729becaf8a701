"""Where a container engine answers and has the image, the image runs; no engine, no test, and pytest says so."""

import io
import os
import shutil
import signal
import tarfile

import docker
import pytest
from docker.errors import DockerException
from emulated_aws import Emulator
from runtime_account import Account, wait_for
from runtime_stack import Batch

IMAGE = "mlops-metaflow-test/busybox:1"
"""No image of the table: only an engine can run it."""
PROGRAMS = ("sh", "env", "echo", "sleep", "true", "false", "test")


@pytest.fixture(scope="module")
def engine():
    """A client of the engine, which has an image of one static program."""
    try:
        client = docker.from_env()
        client.ping()
    except DockerException as error:
        pytest.skip(f"no container engine answers: {error}")
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("no static busybox to make an image of (Debian: apt-get install busybox-static)")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(busybox, "bin/busybox")
        for name in PROGRAMS:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    repository, tag = IMAGE.split(":")
    client.api.import_image_from_data(archive.getvalue(), repository=repository, tag=tag)
    yield client
    client.images.remove(IMAGE, force=True)


@pytest.fixture(scope="module")
def account(engine, tmp_path_factory):
    emulator = Emulator(tmp_path_factory.mktemp("engine"))
    yield Account(emulator)
    emulator.stop()


def containers(engine):
    return engine.containers.list(all=True, filters={"label": "mlops.metaflow.emulator"})


def test_a_task_is_a_container(account, engine):
    container = account.container("sh", "-c", "echo $GIVEN; exit 3", image=IMAGE, variables={"GIVEN": "value"})
    task = account.stopped(account.run(account.define(container)))
    assert task["containers"][0]["exitCode"] == 3
    assert account.log_of(task["taskArn"]) == ["value"]
    assert containers(engine) == []


def test_a_container_is_stopped_and_checked_inside(account, engine):
    check = {"command": ["CMD-SHELL", "test -n $GIVEN"], "interval": 5}
    container = account.container(
        "sleep", "600", image=IMAGE, variables={"GIVEN": "x"}, healthCheck=check, stopTimeout=2
    )
    arn = account.run(account.define(container))
    wait_for(lambda: account.task(arn)["healthStatus"] == "HEALTHY")
    assert len(containers(engine)) == 1
    account.ecs.stop_task(cluster="test", task=arn)
    assert account.stopped(arn)["containers"][0]["exitCode"] == 137
    assert containers(engine) == []


def test_a_missing_program_cannot_start(account, engine):
    task = account.stopped(account.run(account.define(account.container("no-such-program", image=IMAGE))))
    assert task["stoppedReason"].startswith("CannotStartContainerError: ")
    assert containers(engine) == []


def test_a_job_is_a_container(account):
    batch = Batch(account)
    job = batch.done(batch.submit("sh", "-c", "echo attempt $AWS_BATCH_JOB_ATTEMPT", image=IMAGE))
    assert batch.log(job) == ["attempt 1"]


def test_no_container_survives_a_killed_emulator(engine, tmp_path):
    emulator = Emulator(tmp_path / "killed")
    try:
        account = Account(emulator)
        account.running(account.run(account.define(account.container("sleep", "600", image=IMAGE))))
        assert len(containers(engine)) == 1
    finally:
        os.kill(emulator.process.pid, signal.SIGKILL)
        emulator.process.wait()
    wait_for(lambda: containers(engine) == [])
