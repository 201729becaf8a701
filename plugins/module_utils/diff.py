# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The pure part of every module: what differs between a declared resource and the live one.

Everything here is a plain function of its arguments, so that it is tested by tables of cases
(tests/unit/module_utils/). Resources are nested dicts, lists and scalars in AWS's own terms.
"""

from __future__ import annotations

import json

from ansible.module_utils.common.dict_transformations import camel_dict_to_snake_dict

MASK = "(secret)"


def canonical(value):
    """Return a hashable text of ``value`` that is equal for equal values, whatever their key order."""
    return json.dumps(value, sort_keys=True, default=str)


def changes(desired, live, unordered=(), path=""):
    """Return the part of ``desired`` that ``live`` doesn't show, or ``{}``.

    Only what is declared counts: keys that AWS fills in (ids, dates, defaults) are in ``live`` alone and are
    no difference. A declared ``None`` means "not there", whether AWS leaves the key out or says null.

    :param dict desired: the declared resource.
    :param dict live: the resource as read.
    :param unordered: dotted paths of lists without order, e.g. ``("computeResources.subnets",)``.
    :returns: a dict of the same nesting with the desired values that differ; lists are taken whole.
    """
    found = {}
    for key, want in desired.items():
        have = live.get(key)
        here = f"{path}.{key}" if path else key
        if isinstance(want, dict) and isinstance(have, dict):
            # Maps of free keys (tags, variables) are compared whole: an extra key in them is a difference.
            if here in unordered:
                if want != have:
                    found[key] = want
                continue
            inner = changes(want, have, unordered, here)
            if inner:
                found[key] = inner
        elif not _same(want, have, here in unordered):
            found[key] = want
    return found


def _same(want, have, is_unordered):
    if want is None:
        return have in (None, [], {}, "")
    if want in ([], {}) and have is None:
        return True
    if isinstance(want, list) and isinstance(have, list):
        if len(want) != len(have):
            return False
        if is_unordered:
            return sorted(map(canonical, want)) == sorted(map(canonical, have))
        return all(_covers(have_item, want_item) for want_item, have_item in zip(want, have, strict=True))
    return want == have


def _covers(have, want):
    """Tell whether the live list item shows everything that the declared one asks for."""
    if isinstance(want, dict) and isinstance(have, dict):
        return not changes(want, have)
    return _same(want, have, False)


def merged(live, desired, whole=(), path=""):
    """Return ``live`` with ``desired`` laid over it: the state that a change will leave behind.

    :param dict live: may be empty.
    :param dict desired: nested maps are merged, everything else replaces.
    :param whole: dotted paths of the maps that are compared, and so replaced, whole.
    """
    result = dict(live)
    for key, want in desired.items():
        here = f"{path}.{key}" if path else key
        if isinstance(want, dict) and isinstance(result.get(key), dict) and here not in whole:
            result[key] = merged(result[key], want, whole, here)
        else:
            result[key] = want
    return result


def restricted(live, desired, whole=(), path=""):
    """Return the part of ``live`` that ``desired`` speaks of: the "before" of a readable diff.

    Maps that are compared whole (dotted paths in ``whole``) are shown whole: what a change takes out of them is seen.
    """
    if not isinstance(live, dict) or not isinstance(desired, dict) or path in whole:
        return live
    return {
        key: restricted(live[key], desired[key], whole, f"{path}.{key}" if path else key)
        for key in desired
        if key in live
    }


def without_none(value):
    """Return the map ``value`` without the keys, at any depth of maps, that say None."""
    if not isinstance(value, dict):
        return value
    return {key: without_none(inner) for key, inner in value.items() if inner is not None}


def api_form(value, verbatim=("tags",)):
    """Return module options in the API's spelling (``max_time_seconds`` → ``maxTimeSeconds``), without open ones.

    :param value: an option's value: a map with snake_case keys, a list of such maps, or a scalar.
    :param verbatim: the maps whose keys are the person's own.
    """
    if isinstance(value, list):
        return [api_form(item, verbatim) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        _camel_case(key): inner if key in verbatim else api_form(inner, verbatim)
        for key, inner in value.items()
        if inner is not None
    }


def _camel_case(key):
    first, *rest = key.split("_")
    return first + "".join(word.capitalize() for word in rest)


def option_form(value, verbatim=("tags",)):
    """Return a resource in the spelling of module options and results (``maxvCpus`` → ``maxv_cpus``).

    Ansible's own ``camel_dict_to_snake_dict`` spares the maps of its ``ignore_list`` at the top only.

    :param verbatim: the maps, at any depth, whose keys are the person's own.
    """
    if isinstance(value, list):
        return [option_form(item, verbatim) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        option_name(key): inner if key in verbatim else option_form(inner, verbatim) for key, inner in value.items()
    }


def option_name(key):
    """Return a key of the API as the name of a module option (``securityGroupIds`` → ``security_group_ids``)."""
    return next(iter(camel_dict_to_snake_dict({key: None})))


def named(want, have):
    """Return the live ARN ``have`` where the declared short name ``want`` means it, else ``want``.

    :param want: a name ("batch-instance"), an ARN, or None.
    :param have: what AWS shows, a name or an ARN, or None.
    """
    return have if want and have and have.startswith("arn:") and have.endswith(f"/{want}") else want


def masked(value, secret, path=""):
    """Return ``value`` with everything below the dotted paths in ``secret`` replaced by :data:`MASK`."""
    if not isinstance(value, dict):
        return value
    result = {}
    for key, inner in value.items():
        here = f"{path}.{key}" if path else key
        result[key] = MASK if here in secret and inner is not None else masked(inner, secret, here)
    return result


def tag_changes(desired, live, purge):
    """Return ``(set, unset)``: the tags to write and the keys of the tags to remove.

    Keys that begin with ``aws:`` belong to AWS and are never removed.

    :param desired: map of tags, or None for "leave them as they are".
    :param live: map of tags as read.
    :param bool purge: remove live tags that are not declared.
    """
    if desired is None:
        return {}, []
    live = live or {}
    to_set = {key: value for key, value in desired.items() if live.get(key) != value}
    to_unset = sorted(key for key in live if key not in desired and not key.startswith("aws:")) if purge else []
    return to_set, to_unset


def tags_after(desired, live, purge):
    """Return the map of tags that a resource has once :func:`tag_changes` is carried out."""
    to_set, to_unset = tag_changes(desired, live, purge)
    return {**{key: value for key, value in (live or {}).items() if key not in to_unset}, **to_set}
