"""Starts an emulated AWS account for the tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

ROOT = Path(__file__).resolve().parents[1]
START_LIMIT = 60  # seconds; a start takes 2 to 3 on an idle machine
STOP_LIMIT = 20  # seconds


class Emulator:
    """A running emulator, started with `python -m emulator` and further arguments."""

    def __init__(self, state_dir: Path, *args: str) -> None:
        self.state_dir = state_dir
        self.log_file = state_dir.with_name(f"{state_dir.name}.log")
        command = [sys.executable, "-m", "emulator", "--port", "0", "--state-dir", str(state_dir), *args]
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=_clean_environment())
        self.endpoint = self._wait_for_endpoint()
        self._session = boto3.Session()  # one for all clients: it caches botocore's models

    def _wait_for_endpoint(self) -> str:
        """Return the address once the server has written it, which it does when it serves."""
        written = self.state_dir / "endpoint"
        limit = time.monotonic() + START_LIMIT
        while not written.exists():
            if self.process.poll() is not None:
                raise RuntimeError(f"the emulator ended with {self.process.returncode}:\n{self.log_file.read_text()}")
            if time.monotonic() > limit:
                self.stop()
                raise TimeoutError(f"the emulator did not start in {START_LIMIT} s:\n{self.log_file.read_text()}")
            time.sleep(0.02)
        return written.read_text().strip()

    def client(self, service: str, region: str = "us-east-1", **config: Any) -> Any:
        """Return a boto3 client of the account; `config` goes to botocore's Config."""
        return self._session.client(
            service,
            region_name=region,
            endpoint_url=self.endpoint,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            config=Config(**config),
        )

    def reset(self) -> None:
        """Empty the account, remove all faults and forget the recorded calls."""
        self.request("POST", "/moto-api/reset")
        self.request("DELETE", "/_emulator/faults")
        self.request("POST", "/_emulator/calls/reset")

    def calls(self) -> list[dict[str, Any]]:
        """Return a record per service and action: service, action, mutates, count, errors."""
        return self.request("GET", "/_emulator/calls")["calls"]

    def mutations(self) -> list[dict[str, Any]]:
        """Return the records of those calls that can change the account."""
        return [call for call in self.calls() if call["mutates"]]

    def actions(self) -> set[str]:
        """Return what was called, as IAM names it: `ec2:DescribeVpcs`."""
        return {f"{call['service']}:{call['action']}" for call in self.calls()}

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Call a route of the emulator itself and return its JSON answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.endpoint + path, data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def stop(self) -> None:
        """End the server and what it runs."""
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))}
