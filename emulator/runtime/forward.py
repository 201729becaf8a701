"""Requests to what the account serves: stages of REST APIs and load balancers, forwarded to the processes behind them.

A stage is reached as ``/restapis/{api}/{stage}/_user_request_/{path}`` or by its host name,
``{api}.execute-api.{region}.amazonaws.com``; a load balancer as ``/loadbalancers/{name}/{listener port}/{path}`` or by
its DNS name. By a host name means: with that Host header, or through the emulator as HTTP proxy.
"""

import json
import logging
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import urllib3
from werkzeug.wrappers import Request, Response

from . import apigateway, loadbalancing
from .apigateway import Call, Gatekeeper, Refused
from .loadbalancing import LoadBalancing, Unavailable

log = logging.getLogger(__name__)

STAGE_PATH = re.compile(r"/restapis/([a-z0-9]+)/([\w-]+)/_user_request_(/.*)?", re.DOTALL)
STAGE_HOST = re.compile(r"([a-z0-9]+)\.execute-api\.[\w-]+\.amazonaws\.com(?:\.cn)?(?::\d+)?")
BALANCER_PATH = re.compile(r"/loadbalancers/([\w-]+)/(\d+)(/.*)?", re.DOTALL)
BALANCER_HOST = re.compile(r"([\w.-]+\.elb\.[\w.-]*amazonaws\.com(?:\.cn)?)(?::(\d+))?")

HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
"""Headers of one connection, not of the message: RFC 9110, section 7.6.1."""

LARGEST_PAYLOAD = 10 * 2**20
"""Bytes of a request that API Gateway accepts."""
BALANCER_TIMEOUT = 350
"""Seconds without a byte after which a network load balancer drops a connection."""
CHUNK = 64 * 1024


@dataclass(frozen=True)
class Outgoing:
    """A request to a local process."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    timeout: float


class Forwarder:
    """Answers requests to stages and load balancers, and hands on all others."""

    def __init__(self, app: Any, balancing: LoadBalancing) -> None:
        self._app = app
        self._balancing = balancing
        self._gatekeeper = Gatekeeper()
        self._pool = urllib3.PoolManager(num_pools=64, maxsize=64, retries=False)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        request.max_content_length = LARGEST_PAYLOAD
        try:
            response = self._answer(request)
        except Refused as refusal:
            response = _json(refusal.status, refusal.body)
        return response(environ, start_response) if response else self._app(environ, start_response)

    def _answer(self, request: Request) -> Response | None:
        host = request.host
        if found := STAGE_PATH.fullmatch(request.path):
            return self._stage(request, found[1], found[2], found[3] or "/")
        if found := BALANCER_PATH.fullmatch(request.path):
            return self._balancer(request, loadbalancing.by_name(found[1]), int(found[2]), found[3] or "/")
        if found := STAGE_HOST.fullmatch(host):
            _, stage, *rest = request.path.split("/", 2)
            return self._stage(request, found[1], stage, "/" + "".join(rest))
        if found := BALANCER_HOST.fullmatch(host):
            return self._balancer(request, loadbalancing.by_dns_name(found[1]), int(found[2] or 80), request.path)
        if request.environ.get("REQUEST_URI", "").startswith("http://"):
            return self._elsewhere(request)
        return None

    def _elsewhere(self, request: Request) -> Response:
        """Pass on a request for the world outside, for which a container uses the emulator as its proxy.

        Link-local addresses are the machine's own services, which containers do not reach (a hop limit of 1).
        """
        if request.host.startswith("169.254."):
            return _json(502, {"message": f"{request.host} is not reachable from a container"})
        try:
            headers = _end_to_end(request.headers.items())
            return self._send(Outgoing(request.method, request.url, headers, request.get_data(), BALANCER_TIMEOUT))
        except urllib3.exceptions.HTTPError as error:
            return _json(502, {"message": str(error)})

    def _stage(self, request: Request, api_id: str, stage_name: str, path: str) -> Response:
        """Check and forward a request to a stage as API Gateway does."""
        stage = apigateway.find_stage(api_id, stage_name)
        call = Call(request.method, path, request.headers, request.args, request.remote_addr or "")
        found = apigateway.match(stage.snapshot, call.method, path)
        self._gatekeeper.check(stage, found, call)
        if (request.content_length or 0) > LARGEST_PAYLOAD:
            raise Refused(413, f"HTTP content length exceeded {LARGEST_PAYLOAD} bytes.")
        integration = apigateway.integrate(stage, found, call)
        url = self._behind(stage, found, integration.uri)
        query = urlencode([*request.args.items(multi=True), *integration.query.items()])
        headers = (
            _end_to_end(request.headers.items())
            | {
                "Host": urlsplit(integration.uri).netloc,
                "X-Forwarded-For": ", ".join(filter(None, [request.headers.get("X-Forwarded-For"), call.source_ip])),
                "X-Forwarded-Proto": "https",
                "X-Forwarded-Port": "443",
                "X-Amzn-Apigateway-Api-Id": api_id,
            }
            | integration.headers
        )
        outgoing = Outgoing(
            integration.method, f"{url}?{query}" if query else url, headers, request.get_data(), integration.timeout
        )
        response = self._send_for_stage(outgoing)
        response.headers["X-Amzn-RequestId"] = str(uuid.uuid4())
        return response

    def _behind(self, stage: apigateway.DeployedStage, found: apigateway.Match, uri: str) -> str:
        """The local URL for an integration's URI."""
        integration = found.integration
        if integration.get("type") != "HTTP_PROXY":
            log.error("integrations of the type %s are not run", integration.get("type"))
            raise Refused(500, "Internal server error")
        if integration.get("connectionType") != "VPC_LINK":
            return uri
        link = apigateway.vpc_link(stage, found)
        parts = urlsplit(uri)
        balancer = loadbalancing.by_arn(link.target_arns[0])
        try:
            if balancer is None:
                raise Unavailable(f"the load balancer of {link.id} is gone")
            address, port = self._balancing.target(balancer, parts.port or {"http": 80, "https": 443}[parts.scheme])
        except Unavailable as error:
            log.warning("VPC link %s: %s", link.id, error)
            raise Refused(500, "Internal server error") from error
        return f"http://{address}:{port}{parts.path}"

    def _send_for_stage(self, outgoing: Outgoing) -> Response:
        try:
            return self._send(outgoing)
        except urllib3.exceptions.ReadTimeoutError as error:
            raise Refused(504, "Endpoint request timed out") from error
        except urllib3.exceptions.HTTPError as error:
            log.warning("%s %s: %s", outgoing.method, outgoing.url, error)
            raise Refused(500, "Internal server error") from error

    def _balancer(self, request: Request, balancer: Any, port: int, path: str) -> Response:
        """Forward a request as a load balancer passes on a connection: unseen."""
        try:
            if balancer is None:
                raise Unavailable("there is no such load balancer")
            address, local_port = self._balancing.target(balancer, port)
            query = request.query_string.decode()
            url = f"http://{address}:{local_port}{quote(path, safe='/:@!$&()*+,;=~')}"
            headers = _end_to_end(request.headers.items())
            body = request.get_data()
            return self._send(
                Outgoing(request.method, f"{url}?{query}" if query else url, headers, body, BALANCER_TIMEOUT)
            )
        except (Unavailable, urllib3.exceptions.HTTPError) as error:
            # On AWS the connection would be refused or reset, which an HTTP answer cannot say.
            return _json(503, {"message": str(error)})

    def _send(self, outgoing: Outgoing) -> Response:
        """Send a request over a kept connection and stream the answer."""
        answer = self._pool.urlopen(
            outgoing.method,
            outgoing.url,
            headers=outgoing.headers,
            body=outgoing.body or None,
            timeout=urllib3.Timeout(connect=5, read=outgoing.timeout),
            preload_content=False,
            decode_content=False,
            redirect=False,
        )
        headers = [(name, value) for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP]
        return Response(_stream(answer), answer.status, headers)


def _stream(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """The body in pieces; the connection is kept when it is read to the end."""
    try:
        yield from answer.stream(CHUNK, decode_content=False)
    finally:
        answer.release_conn()


def _end_to_end(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The headers that travel on; those that occur several times are joined."""
    joined: dict[str, str] = {}
    for name, value in headers:
        if name.lower() not in HOP_BY_HOP | {"content-length"}:
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


def _json(status: int, document: Mapping[str, str]) -> Response:
    return Response(json.dumps(document), status, mimetype="application/json")
