# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Indices, their templates and documents, and searches: few kinds, but none that is only pretended."""

from __future__ import annotations

import fnmatch
import math
import re
import uuid
from typing import Any

from errors import ApiError, illegal, invalid, only, unparsed
from known import known
from store import Operation, Store

INDEX_NAME = re.compile(r"[a-z0-9.][^A-Z\\/*?\"<>| ,#:]{0,254}")
TEMPLATE = {
    "index_patterns",
    "template",
    "composed_of",
    "priority",
    "version",
    "_meta",
    "data_stream",
    "allow_auto_create",
    "ignore_missing_component_templates",
    "deprecated",
}
SETTINGS = re.compile(
    r"index\.(number_of_shards|number_of_replicas|auto_expand_replicas|refresh_interval|codec|hidden|mode|lifecycle\.[a-z_.]+"
    r"|mapping\.[a-z_.]+|analysis\..+|max_result_window|routing\.[a-z_.]+|default_pipeline|final_pipeline|knn.*|blocks\.[a-z_]+"
    r"|translog\.[a-z_.]+|unassigned\.node_left\.delayed_timeout|sort\.[a-z_.]+|creation_date|uuid|provided_name"
    r"|version\.created)"
)
TYPES = known("field_types")
MAPPINGS = {
    "properties",
    "dynamic",
    "_source",
    "_meta",
    "dynamic_templates",
    "date_detection",
    "numeric_detection",
    "_routing",
    "dynamic_date_formats",
    "runtime",
    "enabled",
}


def flat(value: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Return a map of dotted paths and values."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        here = f"{path}.{key}" if path else key
        found.update(flat(inner, here) if isinstance(inner, dict) and inner else {here: inner})
    return found


def nested(value: dict[str, Any]) -> dict[str, Any]:
    """Return a map of maps, from one of dotted paths."""
    found: dict[str, Any] = {}
    for path, inner in value.items():
        *above, last = path.split(".")
        place = found
        for key in above:
            place = place.setdefault(key, {})
        place[last] = inner
    return found


def as_text(value: Any) -> Any:
    """Return a setting as it is kept: as a text."""
    if isinstance(value, list):
        return [as_text(one) for one in value]
    return value if isinstance(value, str) or value is None else str(value).lower()


def index_settings(settings: Any) -> dict[str, Any]:
    """Return an index's settings by their full names, if all are known."""
    if not isinstance(settings, dict):
        raise unparsed("settings must be an object")
    named = {
        name if name.startswith("index.") else f"index.{name}": as_text(value) for name, value in flat(settings).items()
    }
    for name, value in named.items():
        if not SETTINGS.fullmatch(name):
            raise illegal(
                f"unknown setting [{name}] please check that any required plugins are installed, or check the breaking"
                " changes documentation for removed settings"
            )
        if name in ("index.number_of_shards", "index.number_of_replicas") and not str(value).isdigit():
            raise illegal(f"Failed to parse value [{value}] for setting [{name}]")
    return named


def mappings(declared: Any) -> dict[str, Any]:
    """Return mappings, if all is known in them."""
    if not isinstance(declared, dict):
        raise unparsed("mappings must be an object")
    unknown = set(declared) - MAPPINGS
    if unknown:
        raise ApiError(
            400,
            "mapper_parsing_exception",
            f"Failed to parse mapping: Root mapping definition has unsupported"
            f" parameters:  [{', '.join(sorted(unknown))}]",
        )
    check_fields(declared.get("properties", {}))
    return declared


def check_fields(fields: dict[str, Any], path: str = "") -> None:
    """Refuse fields of unknown types, and vectors that can't be."""
    for name, definition in fields.items():
        here = f"{path}{name}"
        kind = definition.get("type", "object")
        if kind not in TYPES:
            raise ApiError(
                400,
                "mapper_parsing_exception",
                f"Failed to parse mapping: No handler for type [{kind}] declared on field [{here}]",
            )
        if kind == "dense_vector" and not 1 <= int(definition.get("dims", 1)) <= 4096:
            raise ApiError(
                400,
                "mapper_parsing_exception",
                f"The number of dimensions should be in the range [1, 4096] but was [{definition['dims']}]",
            )
        check_fields(definition.get("properties", {}), f"{here}.")


def template_part(declared: Any) -> dict[str, Any]:
    """Return the part of a template that an index gets, as it is kept."""
    only(declared, {"settings", "mappings", "aliases", "lifecycle"}, "template")
    kept = dict(declared)
    if "settings" in kept:
        kept["settings"] = nested(index_settings(kept["settings"]))
    if "mappings" in kept:
        kept["mappings"] = mappings(kept["mappings"])
    return kept


class Documents:
    """All indices."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def put_template(self, name: str, body: Any) -> tuple[dict[str, Any], list[Operation]]:
        """Make or change an index template."""
        only(body, TEMPLATE, "index template")
        patterns = body.get("index_patterns")
        patterns = [patterns] if isinstance(patterns, str) else patterns
        if not patterns:
            raise invalid("index patterns are missing")
        for component in body.get("composed_of", []):
            if component not in self._store.get("component_templates", default={}):
                raise illegal(
                    f"index_template [{name}] invalid, cause [index template [{name}] specifies component templates"
                    f" [{component}] that do not exist]"
                )
        for other, existing in self._store.get("index_templates", default={}).items():
            overlaps = set(patterns) & set(existing["index_patterns"])
            if other != name and overlaps and existing.get("priority", 0) == body.get("priority", 0):
                raise illegal(
                    f"index template [{name}] has index patterns {patterns} matching patterns from existing templates"
                    f" [{other}] with patterns ({other} => {existing['index_patterns']}) that have the same priority"
                    f" [{body.get('priority', 0)}], multiple index templates may not match during index creation,"
                    " please use a different priority"
                )
        kept = {"composed_of": [], **body, "index_patterns": patterns}
        if "template" in body:
            kept["template"] = template_part(body["template"])
        return {"acknowledged": True}, [(["index_templates", name], kept)]

    def put_component(self, name: str, body: Any) -> tuple[dict[str, Any], list[Operation]]:
        """Make or change a component template."""
        only(body, {"template", "version", "_meta", "allow_auto_create", "deprecated"}, "component template")
        return {"acknowledged": True}, [
            (["component_templates", name], {**body, "template": template_part(body["template"])})
        ]

    def names(self, expression: str) -> list[str]:
        """Return the indices that an expression means; a name without an index is an error."""
        every, found = self._store.get("indices", default={}), []
        for part in expression.split(","):
            if part in ("_all", "*") or "*" in part:
                found += [name for name in sorted(every) if fnmatch.fnmatchcase(name, "*" if part == "_all" else part)]
            elif part in every:
                found.append(part)
            else:
                raise missing_index(part)
        return found

    def create(self, name: str, body: Any) -> tuple[dict[str, Any], list[Operation]]:
        """Make an index."""
        body = only(body or {}, {"settings", "mappings", "aliases"}, "create index request")
        if not INDEX_NAME.fullmatch(name) or name in (".", ".."):
            raise ApiError(
                400, "invalid_index_name_exception", f"Invalid index name [{name}], must be lowercase", index=name
            )
        if name in self._store.get("indices", default={}):
            raise ApiError(400, "resource_already_exists_exception", f"index [{name}] already exists", index=name)
        template = self._template_for(name)
        settings = {"index.number_of_shards": "1", "index.number_of_replicas": "1"}
        settings.update(index_settings(template.get("settings", {})))
        settings.update(index_settings(body.get("settings", {})))
        properties = {**template.get("mappings", {}).get("properties", {})}
        declared = mappings(body.get("mappings", {}))
        merged = {**template.get("mappings", {}), **declared}
        if properties or declared.get("properties"):
            merged["properties"] = {**properties, **declared.get("properties", {})}
        index = {
            "settings": settings,
            "mappings": merged,
            "aliases": body.get("aliases", {}),
            "open": True,
            "uuid": uuid.uuid4().hex[:22],
            "documents": {},
        }
        return {"acknowledged": True, "shards_acknowledged": True, "index": name}, [(["indices", name], index)]

    def _template_for(self, name: str) -> dict[str, Any]:
        matching = [
            one
            for one in self._store.get("index_templates", default={}).values()
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in one["index_patterns"])
        ]
        if not matching:
            return {}
        best = max(matching, key=lambda one: one.get("priority", 0))
        parts = [self._store.get("component_templates", component, "template") for component in best["composed_of"]]
        result: dict[str, Any] = {"settings": {}, "mappings": {"properties": {}}}
        for part in [*parts, best.get("template", {})]:
            result["settings"].update(index_settings(part.get("settings", {})))
            own = part.get("mappings", {})
            result["mappings"] = {
                **result["mappings"],
                **own,
                "properties": {**result["mappings"]["properties"], **own.get("properties", {})},
            }
        if not result["mappings"]["properties"]:
            del result["mappings"]["properties"]
        return result

    def index(self, name: str) -> dict[str, Any]:
        """Return an open index."""
        found = self._store.get("indices", name)
        if not found:
            raise missing_index(name)
        if not found["open"]:
            raise ApiError(400, "index_closed_exception", "closed", index=name)
        return found

    def write(
        self, name: str, key: str | None, source: Any, how: str = "index", pending: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], list[Operation]]:
        """Index or create a document.

        :param pending: what the same request has written before, by key.
        """
        index = self.index(name)
        if not isinstance(source, dict):
            raise ApiError(400, "document_parsing_exception", "[1:1] failed to parse: the document is no object")
        self._check(index["mappings"].get("properties", {}), source)
        key = key or uuid.uuid4().hex[:20]
        before = (pending or {}).get(key) or index["documents"].get(key)
        if before and how == "create":
            raise ApiError(
                409,
                "version_conflict_engine_exception",
                f"[{key}]: version conflict, document already exists (current version [{before['version']}])",
                index=name,
            )
        version = before["version"] + 1 if before else 1
        document = {"version": version, "source": source}
        if pending is not None:
            pending[key] = document
        answer = {
            "_index": name,
            "_id": key,
            "_version": version,
            "result": "updated" if before else "created",
            "_shards": {"total": 1, "successful": 1, "failed": 0},
            "_seq_no": self._store.sequence,
            "_primary_term": 1,
        }
        operations: list[Operation] = [(["indices", name, "documents", key], document)]
        return answer, operations

    def _check(self, fields: dict[str, Any], source: dict[str, Any]) -> None:
        for name, definition in fields.items():
            value, kind = source.get(name), definition.get("type", "object")
            if value is None:
                continue
            if kind == "dense_vector" and (
                not isinstance(value, list) or len(value) != definition.get("dims", len(value))
            ):
                raise ApiError(
                    400,
                    "document_parsing_exception",
                    f"[1:1] failed to parse: The [dense_vector] field [{name}] has a different number of dimensions"
                    f" [{len(value) if isinstance(value, list) else 1}] than defined in the mapping"
                    f" [{definition.get('dims')}]",
                )
            numeric = kind in ("integer", "long", "short", "float", "double", "half_float")
            if numeric and not isinstance(value, list) and not is_number(value):
                raise ApiError(
                    400, "document_parsing_exception", f"[1:1] failed to parse field [{name}] of type [{kind}]"
                )

    def delete(self, name: str, key: str) -> tuple[dict[str, Any], list[Operation]]:
        """Take a document away."""
        found = self.index(name)["documents"].get(key)
        answer = {
            "_index": name,
            "_id": key,
            "_version": (found or {"version": 0})["version"] + 1,
            "result": "deleted" if found else "not_found",
        }
        return answer, [(["indices", name, "documents", key], None)] if found else []

    def count(self, names: list[str], body: Any) -> dict[str, Any]:
        """Count documents."""
        query = only(body or {}, {"query"}, "count request").get("query", {"match_all": {}})
        found = sum(1 for _ in self._hits(names, query))
        return {"count": found, "_shards": {"total": len(names), "successful": len(names), "skipped": 0, "failed": 0}}

    def search(self, names: list[str], body: Any) -> dict[str, Any]:
        """Search, by a query or by the nearest vectors."""
        body = only(
            body or {}, {"query", "size", "from", "sort", "_source", "knn", "track_total_hits"}, "search request"
        )
        if "knn" in body:
            hits = self._nearest(names, body["knn"])
        else:
            hits = list(self._hits(names, body.get("query", {"match_all": {}})))
        for one in reversed(body.get("sort", []) if isinstance(body.get("sort", []), list) else [body["sort"]]):
            ((field, order),) = one.items() if isinstance(one, dict) else ((one, "asc"),)
            order = order["order"] if isinstance(order, dict) else order
            hits.sort(
                key=lambda hit, field=field: (hit["_source"].get(field) is None, hit["_source"].get(field)),
                reverse=order == "desc",
            )
        start, size = body.get("from", 0), body.get("size", 10)
        scores = [hit["_score"] for hit in hits]
        return {
            "took": 1,
            "timed_out": False,
            "_shards": {"total": len(names), "successful": len(names), "skipped": 0, "failed": 0},
            "hits": {
                "total": {"value": len(hits), "relation": "eq"},
                "max_score": max(scores, default=None),
                "hits": hits[start : start + size],
            },
        }

    def _hits(self, names: list[str], query: dict[str, Any]):
        for name in names:
            for key, document in self.index(name)["documents"].items():
                if matches(query, key, document["source"]):
                    yield {"_index": name, "_id": key, "_score": 1.0, "_source": document["source"]}

    def _nearest(self, names: list[str], knn: Any) -> list[dict[str, Any]]:
        only(knn, {"field", "query_vector", "k", "num_candidates", "filter"}, "knn")
        hits = []
        for hit in self._hits(names, knn.get("filter", {"match_all": {}})):
            vector = hit["_source"].get(knn["field"])
            if vector:
                hits.append({**hit, "_score": (1 + cosine(vector, knn["query_vector"])) / 2})
        return sorted(hits, key=lambda hit: -hit["_score"])[: knn.get("k", 10)]


def cosine(one: list[float], other: list[float]) -> float:
    """Return how near two vectors are to each other."""
    if len(one) != len(other):
        raise illegal(f"the query vector has a different dimension [{len(other)}] than the index vectors [{len(one)}]")
    length = math.hypot(*one) * math.hypot(*other)
    return sum(a * b for a, b in zip(one, other, strict=True)) / length if length else 0.0


def is_number(value: Any) -> bool:
    """Tell whether a value is one, or its text."""
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool)


def matches(query: dict[str, Any], key: str, source: dict[str, Any]) -> bool:
    """Tell whether a document is one that a query means."""
    if not isinstance(query, dict) or len(query) != 1:
        raise unparsed("[query] malformed query, expected one clause")
    ((kind, asked),) = query.items()
    if kind == "match_all":
        return True
    if kind == "ids":
        return key in asked["values"]
    if kind == "exists":
        return value_at(source, asked["field"]) is not None
    if kind == "bool":
        only(asked, {"must", "filter", "should", "must_not", "minimum_should_match"}, "[bool]")
        clauses = {name: one if isinstance(one, list) else [one] for name, one in asked.items()}
        shoulds = [matches(one, key, source) for one in clauses.get("should", [])]
        return (
            all(matches(one, key, source) for name in ("must", "filter") for one in clauses.get(name, []))
            and not any(matches(one, key, source) for one in clauses.get("must_not", []))
            and (any(shoulds) or not shoulds or "must" in clauses or "filter" in clauses)
        )
    if kind not in ("term", "terms", "match", "range", "prefix"):
        raise unparsed(f"unknown query [{kind}]")
    ((field, wanted),) = asked.items()
    value = value_at(source, field.removesuffix(".keyword"))
    values = value if isinstance(value, list) else [value]
    if kind == "range":
        tests = {
            "gte": lambda have, want: have >= want,
            "gt": lambda have, want: have > want,
            "lte": lambda have, want: have <= want,
            "lt": lambda have, want: have < want,
        }
        only(wanted, {*tests, "format", "time_zone"}, "[range]")
        return any(
            one is not None and all(tests[name](one, want) for name, want in wanted.items() if name in tests)
            for one in values
        )
    if isinstance(wanted, dict):
        wanted = wanted.get("value", wanted.get("query"))
    if kind == "match":
        words = set(str(wanted).lower().split())
        return any(words & set(re.findall(r"\w+", str(one).lower())) for one in values if one is not None)
    if kind == "prefix":
        return any(str(one).startswith(str(wanted)) for one in values if one is not None)
    return any(one in (wanted if kind == "terms" else [wanted]) for one in values)


def value_at(source: dict[str, Any], path: str) -> Any:
    """Return a document's value at a dotted path."""
    found: Any = source
    for key in path.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def missing_index(name: str) -> ApiError:
    """Return the answer where there is no such index."""
    return ApiError(404, "index_not_found_exception", f"no such index [{name}]", index=name)
