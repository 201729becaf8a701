# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What AWS Batch's compute environments and job queues have in common: a status, and a state that must be DISABLED
before they can be deleted."""

from __future__ import annotations

from ansible_collections.mlops.metaflow.plugins.module_utils.resource import AwsResource, Failed

BUSY = ("CREATING", "UPDATING")


class BatchResource(AwsResource):
    """A compute environment or a job queue."""

    service = "batch"
    #: The key of the ARN in what AWS describes.
    arn_key = ""

    def described(self, resources):
        """Return the one resource of a describe call's answer, or None; AWS shows deleted ones for a while."""
        live = next((resource for resource in resources if resource["status"] != "DELETED"), None)
        self.seen = live
        return live

    def settled(self, live):
        if live["status"] == "INVALID":
            raise Failed(f"its status is INVALID: {live.get('statusReason') or 'AWS gives no reason'}")
        return live["status"] == "VALID"

    def is_valid(self):
        """Read, and tell whether AWS has finished with what it was asked for."""
        live = self.read()
        return live is not None and self.settled(live)

    def deleting(self, live):
        return live["status"] == "DELETING"

    def last_word(self):
        return f"{self.seen['status']}: {self.seen.get('statusReason')}" if self.seen else ""

    def at_rest(self):
        """Wait until AWS has finished with the last change: it refuses the next one until then."""
        self.wait_for("free for a change", lambda: (self.read() or {}).get("status") not in BUSY)

    def disable(self, live):
        """Set the state that deletion demands, and wait until it holds."""
        self.at_rest()
        if live["state"] != "DISABLED":
            self.set_state("DISABLED")
            self.at_rest()

    def set_state(self, state):
        """Ask AWS for the state ENABLED or DISABLED."""
        raise NotImplementedError

    def tag(self, live, tags):
        self.client.tag_resource(resourceArn=live[self.arn_key], tags=tags)

    def untag(self, live, keys):
        self.client.untag_resource(resourceArn=live[self.arn_key], tagKeys=keys)
