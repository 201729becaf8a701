# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The stand-ins of the Elastic images: as strict as the real ones where a deployment is wrong; nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import struct
import threading
import urllib.request
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from elastic_node import VERSION, Authority, Node, StandIn, cluster, free_port, until

pytestmark = pytest.mark.xdist_group("elastic-images")

PASSWORD = "elastic-1"
KIBANA = "kibana-1"
ENCRYPTION_KEY = "k" * 32


class Kibana(StandIn):
    program = "kibana"

    def __init__(self, directory, authority, elasticsearch, **settings):
        super().__init__(directory, authority, KIBANA_SYSTEM_PASSWORD=KIBANA)
        settings = {
            "server.host": "127.0.0.1",
            "server.port": 0,
            "server.ssl.enabled": True,
            "server.ssl.certificate": "node.crt",
            "server.ssl.key": "node.key",
            "elasticsearch.hosts": [elasticsearch],
            "elasticsearch.username": "kibana_system",
            "elasticsearch.password": "${KIBANA_SYSTEM_PASSWORD}",
            "elasticsearch.ssl.certificateAuthorities": ["ca.crt"],
            "xpack.encryptedSavedObjects.encryptionKey": ENCRYPTION_KEY,
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        lines = [f"{name}: {json.dumps(value)}" for name, value in settings.items() if value is not None]
        (directory / "config" / "kibana.yml").write_text("# Written by a test\n" + "\n".join(lines) + "\n")


class Logstash(StandIn):
    program, written_at_start = "logstash", "ready"

    def __init__(self, directory, authority, elasticsearch, option=""):
        super().__init__(
            directory, authority, LOGSTASH_INTERNAL_PASSWORD="logstash-1", LS_JAVA_OPTS="-Xms512m -Xmx512m"
        )
        self.beats, self.lines, self.api = free_port(), free_port(), free_port()
        config = directory / "config"
        (config / "logstash.yml").write_text(
            f"api.http.host: 127.0.0.1\napi.http.port: {self.api}\nqueue.type: persisted\n"
        )
        (directory / "pipeline").mkdir()
        (directory / "pipeline" / "logstash.conf").write_text(f"""
            input {{
              beats {{
                port => {self.beats}
                ssl_enabled => true
                ssl_certificate => "{config}/node.crt"
                ssl_key => "{config}/node.key"
              }}
              tcp {{ port => {self.lines} codec => json_lines {option} }}  # a comment
              udp {{ port => {self.lines} codec => json }}
            }}
            output {{
              elasticsearch {{
                hosts => ["{elasticsearch}"]
                user => "logstash_internal"
                password => "${{LOGSTASH_INTERNAL_PASSWORD}}"
                ssl_certificate_authorities => ["{config}/ca.crt"]
                data_stream => false
                manage_template => false
                ilm_enabled => false
                index => "logstash-%{{+YYYY.MM.dd}}"
              }}
            }}""")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority") / "authority")


@pytest.fixture(scope="module")
def elasticsearch(tmp_path_factory, authority):
    node = Node(tmp_path_factory.mktemp("elasticsearch") / "node", authority, PASSWORD).start()
    yield node
    node.stop()


@pytest.fixture
def started():
    """Start stand-ins, and stop them at the end."""
    running = []

    def start(*stand_ins):
        running.extend(stand_ins)
        for one in stand_ins:
            one.start()

    yield start
    for one in running:
        one.stop()


# Elasticsearch


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        (
            {"xpack.security.http.ssl.certificat": "x"},
            "unknown setting [xpack.security.http.ssl.certificat] please check",
        ),
        ({"Cluster.Name": "x"}, "Cluster.Name in the environment is neither a setting nor a variable"),
        ({"ES_JAVA_OPT": "-Xmx1g"}, "ES_JAVA_OPT in the environment is neither"),
        ({"ES_JAVA_OPTS": "Xmx1g"}, "Could not find or load main class Xmx1g"),
        ({"ELASTIC_PASSWORD": "x"}, "Both ELASTIC_PASSWORD_FILE and ELASTIC_PASSWORD are set."),
        ({"ELASTIC_PASSWORD_FILE": "/nowhere"}, "File /nowhere from ELASTIC_PASSWORD_FILE does not exist"),
        ({"ELASTIC_PASSWORD_FILE": "/etc/passwd"}, "must have file permissions 400 or 600, but actually has: 644"),
        ({"xpack.security.http.ssl.key": ""}, "server ssl configuration requires a key and certificate"),
        ({"xpack.security.http.ssl.key": "none.key"}, "does not exist or is not readable"),
        ({"xpack.security.http.ssl.key": "/etc/passwd"}, "SSL resources should be placed in the ["),
        ({"xpack.security.http.ssl.key": "node.crt"}, "failed to load SSL configuration [xpack.security.http.ssl]"),
        ({"xpack.security.enabled": "false"}, "serves nothing without xpack.security.enabled"),
        (
            {"s3.client.default.secret_key": "x"},
            "is a secure setting and must be stored inside the Elasticsearch keystore",
        ),
        ({"cluster.initial_master_nodes": "a"}, "is not allowed when [discovery.type] is set to [single-node]"),
        ({"discovery.type": "", "network.host": "0.0.0.0"}, "the default discovery settings are unsuitable"),
        ({"discovery.type": "", "network.host": "0.0.0.0"}, "Transport SSL must be enabled if security is enabled."),
        (
            {"ES_JAVA_OPTS": "-Xms1g -Xmx2g -Des.enforce.bootstrap.checks=true"},
            "initial heap size [1073741824] not equal to",
        ),
    ],
)
def test_elasticsearch_does_not_start_with(authority, tmp_path, environment, reason):
    node = Node(tmp_path / "node", authority, PASSWORD)
    node.environment |= environment
    assert reason in node.refuses()


@pytest.mark.parametrize(("areas", "starts"), [("65530", False), ("262144", True)])
def test_elasticsearch_in_production_needs_many_maps(authority, tmp_path, started, areas, starts):
    (tmp_path / "max_map_count").write_text(areas)
    node = Node(tmp_path / "node", authority, PASSWORD)
    node.environment["STANDIN_MAX_MAP_COUNT"] = str(tmp_path / "max_map_count")
    node.environment["ES_JAVA_OPTS"] += " -Des.enforce.bootstrap.checks=true"
    if starts:
        started(node)
    else:
        assert "max virtual memory areas vm.max_map_count [65530] is too low, increase to" in node.refuses()


def test_elasticsearch_does_not_go_back_to_an_older_version(authority, tmp_path, started):
    node = Node(tmp_path / "node", authority, PASSWORD)
    started(node)
    node.stop()
    node.environment["STANDIN_VERSION"] = "8.16.1"
    assert f"cannot downgrade a node from version [{VERSION}] to version [8.16.1]" in node.refuses()


def test_what_was_acknowledged_outlives_a_crash(authority, tmp_path, started):
    node = Node(tmp_path / "node", authority, PASSWORD)
    started(node)
    for number in range(20):
        assert node.call("PUT", f"/nutrients/_doc/{number}", {"number": number})[0] == 201
    node.stop()
    with (tmp_path / "node" / "data" / "journal").open("a") as journal:
        journal.write('{"sequence": 99, "operations": [[["indices"')  # cut short
    started(node)
    assert node.get("/nutrients/_count")["count"] == 20


def test_a_renewed_certificate_is_served_without_a_restart(authority, tmp_path, started):
    node = Node(tmp_path / "node", authority, PASSWORD)
    started(node)
    port = int(node.url.rpartition(":")[2])
    before = ssl.get_server_certificate(("127.0.0.1", port))
    authority.issue(tmp_path / "node" / "config")
    after = ssl.get_server_certificate(("127.0.0.1", port))
    assert before != after == (tmp_path / "node" / "config" / "node.crt").read_text()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "reason"),
    [
        ("PUT", "/_security/user/a", {"password": "short", "roles": []}, 400, "at least [6] characters"),
        ("PUT", "/_security/user/a", {"password": "longer"}, 400, "roles are missing"),
        ("PUT", "/_security/user/a", {"roles": []}, 400, "password must be specified unless"),
        ("PUT", "/_security/user/a", {"role": []}, 400, "unexpected field [role]"),
        ("PUT", "/_security/user/elastic", {"roles": []}, 400, "is reserved and only the password can be changed"),
        ("DELETE", "/_security/user/elastic", None, 400, "is reserved and cannot be deleted"),
        ("PUT", "/_security/user/none/_password", {"password": "longer"}, 400, "user must exist"),
        ("PUT", "/_security/role/superuser", {}, 400, "is reserved"),
        ("PUT", "/_security/role/a", {"indices": [{"names": ["a"]}]}, 400, "missing required [privileges] field"),
        ("PUT", "/_cluster/settings", {"persistent": {"a.b": 1}}, 400, "persistent setting [a.b], not recognized"),
        (
            "PUT",
            "/_index_template/a",
            {"index_patterns": ["a"], "template": {"settings": {"shards": 1}}},
            400,
            "index.shards",
        ),
        ("PUT", "/a?mapping=1", {}, 400, "contains unrecognized parameter: [mapping]"),
        ("PUT", "/A", {}, 400, "must be lowercase"),
        ("GET", "/none/_search", None, 404, "no such index [none]"),
        ("POST", "/_bulk", b"{}", 400, "must be terminated by a newline"),
        ("GET", "/_none", None, 400, "no handler found for uri [/_none]"),
        (
            "PUT",
            "/_slm/policy/a",
            {"schedule": "0 0 1 * * ?", "name": "a", "repository": "none"},
            404,
            "[none] missing",
        ),
        ("PUT", "/a/_doc/1", b"{", 400, "Failed to parse object"),
    ],
)
def test_elasticsearch_refuses(elasticsearch, method, path, body, status, reason):
    answered, content = elasticsearch.call(method, path, body)
    assert (answered, content["status"]) == (status, status)
    assert reason in content["error"]["reason"]


def test_the_nearest_vectors(elasticsearch):
    mappings = {"properties": {"embedding": {"type": "dense_vector", "dims": 2}}}
    elasticsearch.call("PUT", "/vectors", {"mappings": mappings})
    for key, vector in (("up", [0, 1]), ("right", [1, 0]), ("left", [-1, 0])):
        elasticsearch.call("PUT", f"/vectors/_doc/{key}", {"embedding": vector})
    knn = {"field": "embedding", "query_vector": [1, 0.1], "k": 2, "num_candidates": 3}
    _status, found = elasticsearch.call("POST", "/vectors/_search", {"knn": knn})
    assert [hit["_id"] for hit in found["hits"]["hits"]] == ["right", "up"]


@pytest.fixture
def metadata():
    """The metadata of an instance with a role, and what was asked of it."""
    asked = []

    class Metadata(BaseHTTPRequestHandler):
        def answer(self):
            asked.append((self.command, self.path, self.headers.get("X-aws-ec2-metadata-token")))
            role = {"AccessKeyId": "role-key", "SecretAccessKey": "role-secret", "Token": "role-token"}
            answers = {"token": "session", "security-credentials/": "elk\n", "elk": json.dumps(role)}
            body = answers[self.path.rpartition("/")[2] or "security-credentials/"].encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = answer

        def log_message(self, *_arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_snapshots_in_s3(authority, tmp_path, started, emulator, metadata):
    """With the credentials of the instance's role, which only its metadata has."""
    emulator.reset()
    s3 = emulator.client("s3")
    s3.create_bucket(Bucket="metaflow-data")
    address, asked = metadata
    client = {"s3.client.default.endpoint": emulator.endpoint, "s3.client.default.path_style_access": "true"}
    node = Node(tmp_path / "node", authority, PASSWORD, **client)
    node.environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = address
    started(node)
    body = {"type": "s3", "settings": {"bucket": "metaflow-data", "base_path": "elk/snapshots"}}
    assert node.call("PUT", "/_snapshot/s3", body) == (200, {"acknowledged": True})
    assert ("GET", "/latest/meta-data/iam/security-credentials/elk", "session") in asked
    node.call("PUT", "/nutrients/_doc/1", {"a": 1})
    status, taken = node.call("PUT", "/_snapshot/s3/first?wait_for_completion=true")
    assert (status, taken["snapshot"]["state"], taken["snapshot"]["indices"]) == (200, "SUCCESS", ["nutrients"])
    keys = [one["Key"] for one in s3.list_objects_v2(Bucket="metaflow-data")["Contents"]]
    assert keys == ["elk/snapshots/index.json", "elk/snapshots/snapshots/first.json"]

    status, refused = node.call("POST", "/_snapshot/s3/first/_restore")
    assert "an open index with same name already exists" in refused["error"]["reason"]
    renamed = {"indices": "nutrients", "rename_pattern": "(.+)", "rename_replacement": "old-$1"}
    assert node.call("POST", "/_snapshot/s3/first/_restore", renamed)[1]["snapshot"]["indices"] == ["old-nutrients"]
    assert node.call("POST", "/nutrients/_close")[0] == 200
    assert node.call("POST", "/_snapshot/s3/first/_restore")[0] == 200
    assert node.get("/old-nutrients/_doc/1")["_source"] == node.get("/nutrients/_doc/1")["_source"] == {"a": 1}

    body["settings"]["bucket"] = "none"
    status, refused = node.call("PUT", "/_snapshot/other", body)
    assert (status, refused["error"]["type"]) == (500, "repository_verification_exception")
    assert "NoSuchBucket" in refused["error"]["caused_by"]["reason"]


def test_three_nodes_are_one_cluster(authority, tmp_path, started):
    nodes = cluster(tmp_path, authority, PASSWORD)
    started(*nodes)
    first, second, third = nodes

    def healthy(node, status, count):
        answered, health = node.call("GET", "/_cluster/health")
        return answered == 200 and (health["status"], health["number_of_nodes"]) == (status, count)

    until(lambda: healthy(first, "green", 3))
    assert first.call("PUT", "/nutrients/_doc/1", {"a": 1})[0] == 201
    assert second.get("/nutrients/_doc/1") == third.get("/nutrients/_doc/1")
    assert third.call("PUT", "/_security/user/flows", {"password": "flows-1", "roles": []}) == (200, {"created": True})
    assert second.call("GET", "/_security/_authenticate", None, "flows", "flows-1")[0] == 200
    uuid = first.get("/")["cluster_uuid"]
    assert {node.get("/")["cluster_uuid"] for node in nodes} == {uuid}

    # Shards may not move while a node is restarted; they come back when they may.
    replicas = {"index": {"number_of_replicas": 2}}
    assert first.call("PUT", "/nutrients/_settings", replicas)[0] == 200
    until(lambda: healthy(second, "green", 3))
    only_primaries = {"persistent": {"cluster.routing.allocation.enable": "primaries"}}
    assert first.call("PUT", "/_cluster/settings", only_primaries)[0] == 200
    third.stop()
    until(lambda: healthy(first, "yellow", 2))
    for number in range(2, 12):
        assert second.call("PUT", f"/nutrients/_doc/{number}", {"a": number})[0] == 201
    started(third)
    until(lambda: healthy(third, "yellow", 3))
    assert (
        third.call("PUT", "/_cluster/settings", {"persistent": {"cluster.routing.allocation.enable": None}})[0] == 200
    )
    until(lambda: healthy(third, "green", 3))
    assert third.get("/nutrients/_count")["count"] == 11

    # Of two that are gone, the third neither reads nor writes; with one back, it does, and nothing is lost.
    first.stop()
    second.stop()
    until(lambda: third.call("GET", "/_cluster/health")[0] == 503)
    assert third.call("PUT", "/nutrients/_doc/99", {"a": 99})[0] == 503
    started(first)
    until(lambda: healthy(third, "yellow", 2))
    assert first.get("/nutrients/_count")["count"] == 11


# Kibana


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"server.prot": 1}, 'Unknown configuration key(s): "server.prot"'),
        ({"elasticsearch.username": "elastic"}, 'value of "elastic" is forbidden'),
        ({"elasticsearch.password": "${NO_SUCH}"}, "Unknown environment variable referenced in config : NO_SUCH"),
        ({"elasticsearch.password": None}, "[config validation of [elasticsearch].password]: it is missing"),
        ({"elasticsearch.hosts": ["http://127.0.0.1"]}, "by https only"),
        ({"elasticsearch.ssl.certificateAuthorities": None}, "would not be trusted"),
        (
            {"xpack.security.encryptionKey": "short"},
            "[xpack.security].encryptionKey]: value has length [5] but it must",
        ),
        ({"server.ssl.key": None}, "must specify [certificate] and [key]"),
        ({"server.ssl.key": "none"}, "No such file"),
    ],
)
def test_kibana_does_not_start_with(authority, tmp_path, settings, reason):
    assert reason in Kibana(tmp_path / "kibana", authority, "https://127.0.0.1:9", **settings).refuses()


def test_kibana_takes_no_password_from_the_environment(authority, tmp_path):
    kibana = Kibana(tmp_path / "kibana", authority, "https://127.0.0.1:9")
    kibana.environment["ELASTICSEARCH_PASSWORD"] = KIBANA
    assert "['ELASTICSEARCH_PASSWORD'] in the environment would become arguments" in kibana.refuses()


def test_kibana_is_there_when_it_can_sign_in(authority, tmp_path, elasticsearch, started):
    kibana = Kibana(tmp_path / "kibana", authority, elasticsearch.url)
    started(kibana)
    until(lambda: "unable to authenticate user [kibana_system]" in kibana.log.read_text())
    assert kibana.call("GET", "/api/status")[0] == 503
    assert kibana.call("GET", "/") == (503, "Kibana server is not ready yet.")
    elasticsearch.call("PUT", "/_security/user/kibana_system/_password", {"password": KIBANA})
    until(lambda: kibana.call("GET", "/api/status")[0] == 200)
    assert "version" not in kibana.call("GET", "/api/status")[1]
    assert kibana.call("GET", "/api/status", None, "elastic", PASSWORD)[1]["version"] == {"number": VERSION}
    assert kibana.call("GET", "/")[0] == 302
    login = {"params": {"username": "elastic", "password": "wrong"}}
    assert kibana.call("POST", "/internal/security/login", login)[0] == 401
    login["params"]["password"] = PASSWORD
    assert kibana.call("POST", "/internal/security/login", login)[0] == 200

    # At this signal it takes the renewed certificate.
    authority.issue(tmp_path / "kibana" / "config")
    os.kill(kibana.process.pid, signal.SIGHUP)
    written = (tmp_path / "kibana" / "config" / "node.crt").read_text()
    port = int(kibana.url.rpartition(":")[2])
    until(lambda: ssl.get_server_certificate(("127.0.0.1", port)) == written)


# Logstash


@pytest.mark.parametrize(
    ("option", "environment", "reason"),
    [
        ("ssl => true", {}, "Unknown setting 'ssl' for tcp"),
        ("}", {}, "Failed to execute action: Expected one of ('input', 'filter', 'output')"),
        ("mode =>", {}, "Expected a value in the pipeline, and not '}'"),
        ("", {"LOGSTASH_INTERNAL_PASSWORD": None}, "Cannot evaluate `${LOGSTASH_INTERNAL_PASSWORD}`"),
        ("", {"PIPELINE_WORKERS": "2"}, "env2yaml would write ['PIPELINE_WORKERS'] into logstash.yml"),
        ("", {"LS_JAVA_OPTS": "Xmx1g"}, "Unrecognized option: Xmx1g"),
    ],
)
def test_logstash_does_not_start_with(authority, tmp_path, option, environment, reason):
    logstash = Logstash(tmp_path / "logstash", authority, "https://127.0.0.1:9", option)
    logstash.environment |= environment
    logstash.environment = {name: value for name, value in logstash.environment.items() if value is not None}
    assert reason in logstash.refuses()


def test_logstash_brings_all_to_elasticsearch(authority, tmp_path, elasticsearch, started):
    """Also what it took before it could sign in, and before it crashed."""
    logstash = Logstash(tmp_path / "logstash", authority, elasticsearch.url)
    started(logstash)
    with socket.create_connection(("127.0.0.1", logstash.lines)) as connection:
        connection.sendall(b'{"by": "tcp"}\n{"by": "tcp", "n": 2}\n')
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b'{"by": "udp"}', ("127.0.0.1", logstash.lines))
    send_beats(logstash.beats, authority, [{"by": "beats"}, {"by": "beats", "n": 2}])

    def status():
        with urllib.request.urlopen(f"http://127.0.0.1:{logstash.api}/", timeout=10) as answer:
            return json.load(answer)

    until(lambda: status()["events_in_queue"] == 5)
    until(lambda: "unable to authenticate user [logstash_internal]" in logstash.log.read_text())
    logstash.stop()
    indices = [{"names": ["logstash-*"], "privileges": ["create_doc", "auto_configure"]}]
    elasticsearch.call("PUT", "/_security/role/logstash_writer", {"cluster": ["monitor"], "indices": indices})
    user = {"password": "logstash-1", "roles": ["logstash_writer"]}
    elasticsearch.call("PUT", "/_security/user/logstash_internal", user)
    started(logstash)
    until(lambda: status()["events_in_queue"] == 0)
    _status, found = elasticsearch.call("POST", "/logstash-*/_search", {"query": {"match_all": {}}})
    sources = [hit["_source"]["by"] for hit in found["hits"]["hits"]]
    assert sorted(sources) == ["beats", "beats", "tcp", "tcp", "udp"]


def send_beats(port, authority, events):
    """Send events as Beats do, compressed, and wait for the acknowledgement."""
    context = ssl.create_default_context(cafile=authority.path)
    frames = b""
    for number, event in enumerate(events, 1):
        content = json.dumps(event).encode()
        frames += b"2J" + struct.pack(">II", number, len(content)) + content
    packed = zlib.compress(frames)
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(b"2W" + struct.pack(">I", len(events)) + b"2C" + struct.pack(">I", len(packed)) + packed)
        assert connection.recv(6) == b"2A" + struct.pack(">I", len(events))
