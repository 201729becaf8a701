# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How nodes are one cluster: one is the master, by votes of most, and what it acknowledges most have on their disks.

Nodes talk HTTPS on the transport port, with certificates on both sides. It is Raft with one simplification: a node that
is not where the master believes gets all of the state. A node alone is a cluster of one, by the same code.
"""

from __future__ import annotations

import http.client
import json
import random
import ssl
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from errors import ApiError
from settings import Settings
from store import Operation, Store

BEAT = 0.4  # seconds between two words of the master
PATIENCE = 5.0  # seconds without one until a node asks for votes; up to twice that, so that not all do at once
ANSWER = 5.0  # seconds for an answer of another node
FORWARDED = 120.0  # the same, where a client may wait for it


class Cluster:
    """This node's view of all nodes."""

    def __init__(self, settings: Settings, store: Store, context: ssl.SSLContext | None) -> None:
        self.settings, self.store, self._context = settings, store, context
        self.name = settings.get("node.name")
        self._seeds = [] if settings.single else settings.items("discovery.seed_hosts")
        self._lock = threading.RLock()
        self._writing = threading.Lock()
        self.master: str | None = None
        self._heard = time.monotonic()
        #: Where the other nodes are, by name, and what they last said.
        self.peers: dict[str, dict[str, Any]] = {}
        self._pool = ThreadPoolExecutor(8)
        if not self._seeds:
            store.vote(store.term + 1, self.name)
            self.master = self.name
            self._found()

    def start(self) -> None:
        """Look for the others, if there may be any."""
        if self._seeds:
            threading.Thread(target=self._live, daemon=True).start()

    @property
    def voters(self) -> int:
        """How many nodes may vote: those with which the cluster was founded, or is to be."""
        return len(self.store.get("voters", default=[]) or self.settings.items("cluster.initial_master_nodes"))

    def _found(self) -> None:
        """Keep what a cluster gets once."""
        if not self.store.get("uuid"):
            names = self.settings.items("cluster.initial_master_nodes") or [self.name]
            self.write([(["uuid"], uuid.uuid4().hex[:22]), (["voters"], names), (["holding"], [self.name])])

    @property
    def is_master(self) -> bool:
        """Whether this node is the master."""
        return self.master == self.name

    def nodes(self) -> list[str]:
        """Return the names of the nodes that are there, as the master sees them."""
        now = time.monotonic()
        with self._lock:
            return sorted(
                [self.name, *(name for name, peer in self.peers.items() if now - peer["heard"] < PATIENCE * 1.5)]
            )

    def require_master(self) -> None:
        """Refuse to serve anything that may be old."""
        if self.master is None:
            raise ApiError(503, "master_not_discovered_exception", "master not discovered or elected yet")

    # What other nodes ask of this one

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Serve another node."""
        handler = {"/hello": self._hello, "/vote": self._vote, "/append": self._append, "/install": self._install}[path]
        with self._lock:
            return handler(body)

    def _me(self) -> dict[str, Any]:
        state = self.store
        return {
            "name": self.name,
            "term": state.term,
            "sequence": state.sequence,
            "written_in": state.written_in,
            "version": self.settings.version,
            "cluster_name": self.settings["cluster.name"],
            "master": self.master,
        }

    def _hello(self, _body: dict[str, Any]) -> dict[str, Any]:
        return self._me()

    def _vote(self, asks: dict[str, Any]) -> dict[str, Any]:
        mine = (self.store.written_in, self.store.sequence)
        newer = asks["term"] > self.store.term
        granted = newer and (asks["written_in"], asks["sequence"]) >= mine
        if newer:
            self.store.vote(asks["term"], asks["name"] if granted else "")
            self.master = None
        if granted:
            self._heard = time.monotonic()
        return {"granted": granted, **self._me()}

    def _follow(self, body: dict[str, Any]) -> bool:
        """Accept a master, unless its term is over."""
        if body["term"] < self.store.term:
            return False
        if body["term"] > self.store.term:
            self.store.vote(body["term"], body["name"])
        self.master, self._heard = body["name"], time.monotonic()
        return True

    def _append(self, body: dict[str, Any]) -> dict[str, Any]:
        if not self._follow(body):
            return {"accepted": False, **self._me()}
        entry = body.get("entry")
        before = entry["sequence"] - 1 if entry else body["sequence"]
        here = before == self.store.sequence and body["before"] == self.store.written_in
        if entry and here:
            self.store.append(entry)
        return {"accepted": here, "behind": not here, **self._me()}

    def _install(self, body: dict[str, Any]) -> dict[str, Any]:
        if not self._follow(body):
            return {"accepted": False, **self._me()}
        self.store.install({**body["state"], "term": self.store.term, "voted_for": self.store.voted_for})
        return {"accepted": True, **self._me()}

    # What this node asks of others

    def ask(self, address: str, path: str, body: dict[str, Any], timeout: float = ANSWER) -> Any:
        """Call another node; its answer, or None where none comes."""
        host, _, port = address.partition(":")
        connection = http.client.HTTPSConnection(host, int(port or 9300), timeout=timeout, context=self._context)
        try:
            connection.request("POST", path, json.dumps(body))
            return json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def _remember(self, address: str, said: dict[str, Any] | None) -> None:
        if said and said["name"] != self.name and said["cluster_name"] == self.settings["cluster.name"]:
            with self._lock:
                self.peers[said["name"]] = {**said, "address": address, "heard": time.monotonic()}

    def _live(self) -> None:
        wait = PATIENCE
        while True:
            try:
                if self.is_master:
                    self._beat()
                elif time.monotonic() - self._heard > wait:
                    with self._lock:
                        self.master = None
                    self._meet()
                    self._stand()
                    wait = PATIENCE * random.uniform(1, 2)  # noqa: S311 - no secret
            except ApiError as error:  # the others went meanwhile
                print(f"WARN {error}", flush=True)
            time.sleep(BEAT)

    def _meet(self) -> None:
        for address, said in zip(
            self._seeds, self._pool.map(lambda seed: self.ask(seed, "/hello", {}), self._seeds), strict=True
        ):
            self._remember(address, said)

    def _others(self) -> list[dict[str, Any]]:
        with self._lock:
            return list(self.peers.values())

    def _stand(self) -> None:
        """Ask for votes."""
        if not self.voters or len(self.nodes()) * 2 <= self.voters:
            return
        with self._lock:
            self.store.vote(self.store.term + 1, self.name)
            ballot = self._me()
        answers = list(self._pool.map(lambda peer: self.ask(peer["address"], "/vote", ballot), self._others()))
        votes = 1 + sum(1 for answer in answers if answer and answer["granted"])
        with self._lock:
            if self.store.term == ballot["term"] and votes * 2 > self.voters:
                self.master = self.name
        if self.is_master:
            print(f"elected-as-master ([{votes}] nodes joined), term: {ballot['term']}", flush=True)
            self._found()
            self._beat()

    def _beat(self) -> None:
        self._meet()
        if self._send({"sequence": self.store.sequence, "before": self.store.written_in}) * 2 <= self.voters:
            with self._lock:
                self.master = None
            return
        self._allocate()

    def _send(self, message: dict[str, Any]) -> int:
        """Tell all nodes that are there; return how many, this one among them, are where the master is."""
        message = {**message, "name": self.name, "term": self.store.term}
        here = set(self.nodes())
        peers = [peer for peer in self._others() if peer["name"] in here]
        return 1 + sum(self._pool.map(lambda peer: self._tell(peer, message), peers))

    def _tell(self, peer: dict[str, Any], message: dict[str, Any]) -> bool:
        answer = self.ask(peer["address"], "/append", message)
        if answer and answer.get("behind"):
            # The entry that is being sent is in the master's own journal already, so it is in the state, too.
            state = {"name": self.name, "term": message["term"], "state": self.store.document()}
            answer = self.ask(peer["address"], "/install", state)
        if answer and answer["term"] > message["term"]:
            with self._lock:
                self.store.vote(answer["term"], "")
                self.master = None
        self._remember(peer["address"], answer)
        return bool(answer and answer["accepted"])

    def write(self, operations: list[Operation]) -> None:
        """Make a change count: on this disk, then on those of most nodes."""
        if not operations:
            return
        with self._writing:
            if not self.is_master:
                raise ApiError(503, "cluster_block_exception", "blocked by: [SERVICE_UNAVAILABLE/2/no master];")
            before = self.store.written_in
            entry = self.store.entry(operations)
            self.store.append(entry)
            if self._seeds and self._send({"entry": entry, "before": before}) * 2 <= self.voters:
                raise ApiError(503, "cluster_block_exception", "blocked by: [SERVICE_UNAVAILABLE/2/no master];")

    def _allocate(self) -> None:
        """Let copies of shards go to nodes that came, unless the settings forbid it, and forget those that went."""
        here, holding = set(self.nodes()), set(self.store.get("holding", default=[]))
        allowed = self.allocation() == "all"
        wanted = sorted(here if allowed else here & holding | {self.name})
        if wanted != sorted(holding):
            self.write([(["holding"], wanted)])

    def allocation(self) -> str:
        """Return which shards may be put on nodes."""
        for scope in ("transient", "persistent"):
            found = self.store.get("settings", scope, "cluster.routing.allocation.enable")
            if found:
                return str(found)
        return "all"

    def forward(self, path: str, request: dict[str, Any]) -> Any:
        """Have the master serve a request."""
        if self.master not in self.peers:
            self._meet()
        peer = self.peers.get(self.master or "")
        answer = peer and self.ask(peer["address"], path, request, FORWARDED)
        if not answer:
            raise ApiError(503, "master_not_discovered_exception", "the master does not answer")
        return answer

    def copies(self, index: dict[str, Any]) -> tuple[int, int, int]:
        """Return an index's primary shards, its active shards, and those that are on no node."""
        primaries, replicas = (
            int(index["settings"]["index.number_of_shards"]),
            int(index["settings"]["index.number_of_replicas"]),
        )
        elsewhere = max(0, len(self.store.get("holding", default=[self.name])) - 1)
        return primaries, primaries * (1 + min(replicas, elsewhere)), primaries * max(0, replicas - elsewhere)

    def health(self) -> dict[str, Any]:
        """Return what `_cluster/health` shows."""
        self.require_master()
        with self.store.lock:
            all_copies = [self.copies(index) for index in self.store.get("indices", default={}).values()]
        primaries, active, missing = (sum(copies[column] for copies in all_copies) for column in range(3))
        nodes = self.nodes()
        return {
            "cluster_name": self.settings["cluster.name"],
            "status": "yellow" if missing else "green",
            "timed_out": False,
            "number_of_nodes": len(nodes),
            "number_of_data_nodes": len(nodes),
            "active_primary_shards": primaries,
            "active_shards": active,
            "relocating_shards": 0,
            "initializing_shards": 0,
            "unassigned_shards": missing,
            "delayed_unassigned_shards": 0,
            "number_of_pending_tasks": 0,
            "number_of_in_flight_fetch": 0,
            "task_max_waiting_in_queue_millis": 0,
            "active_shards_percent_as_number": 100.0 * active / (active + missing) if active else 100.0,
        }
