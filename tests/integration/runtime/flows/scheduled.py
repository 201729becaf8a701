"""A flow that runs every day at noon, with a foreach."""

from metaflow import FlowSpec, schedule, step


@schedule(cron="0 12 * * ? *")
class ScheduledFlow(FlowSpec):
    """Adds up what its tasks are given."""

    @step
    def start(self):
        """Fan out."""
        self.items = [1, 2]
        self.next(self.take, foreach="items")

    @step
    def take(self):
        """Take one."""
        self.value = self.input
        self.next(self.total)

    @step
    def total(self, inputs):
        """Add up."""
        self.sum = sum(one.value for one in inputs)
        self.next(self.end)

    @step
    def end(self):
        """Done."""


if __name__ == "__main__":
    ScheduledFlow()
