"""The task metadata endpoint, version 4: what a container can learn of itself.

https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4.html
"""

from collections.abc import Mapping

ROUTE = "/_runtime/metadata/"

_documents: dict[str, Mapping[str, object]] = {}


def publish(container: str, document: Mapping[str, object]) -> str:
    """Let a container read its document; the path under which it does."""
    _documents[container] = document
    return ROUTE + container


def withdraw(container: str) -> None:
    """The container has ended."""
    _documents.pop(container, None)


def read(container: str) -> Mapping[str, object] | None:
    """The document of a container."""
    return _documents.get(container)
