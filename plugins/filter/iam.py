# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters that build IAM policy documents."""

from __future__ import annotations


def trust(service, account=None):
    """Return the trust policy by which an AWS service may act as a role.

    :param str service: e.g. ``ecs-tasks.amazonaws.com``.
    :param str account: admit the service only where it works for this account, so that nobody else's resource can
        borrow the role ("confused deputy"). EC2 sends no source account and is trusted without.
    """
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    if account:
        statement["Condition"] = {"StringEquals": {"aws:SourceAccount": account}}
    return {"Version": "2012-10-17", "Statement": [statement]}


class FilterModule:
    """The filters of this file."""

    def filters(self):
        return {"trust": trust}
