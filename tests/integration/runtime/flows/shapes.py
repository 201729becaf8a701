"""A flow with everything that Metaflow's state machines are made of: parameter, branch, join, foreach, retry, catch."""

import os

from metaflow import FlowSpec, Parameter, catch, current, retry, step


class ShapesFlow(FlowSpec):
    """Runs on Batch and as a state machine."""

    width = Parameter("width", type=int, default=3)

    @step
    def start(self):
        """Say who runs it."""
        self.job = os.environ.get("AWS_BATCH_JOB_ID")
        print("hello from start")
        self.next(self.left, self.right)

    @step
    def left(self):
        """One branch."""
        self.side = "left"
        self.next(self.both)

    @step
    def right(self):
        """The other branch."""
        self.side = "right"
        self.next(self.both)

    @step
    def both(self, inputs):
        """Join the branches."""
        self.job = inputs.left.job
        self.sides = sorted(one.side for one in inputs)
        self.next(self.spread)

    @step
    def spread(self):
        """Fan out."""
        self.items = list(range(self.width))
        self.next(self.square, foreach="items")

    @retry(times=1, minutes_between_retries=0)
    @step
    def square(self):
        """Fail once for one item."""
        if self.input == 1 and current.retry_count == 0:
            raise RuntimeError("the first attempt fails")
        self.attempt = current.retry_count
        self.result = self.input**2
        self.next(self.total)

    @step
    def total(self, inputs):
        """Join the squares."""
        self.merge_artifacts(inputs, include=["job", "sides"])
        self.sum = sum(one.result for one in inputs)
        self.attempts = [one.attempt for one in sorted(inputs, key=lambda one: one.input)]
        self.next(self.risky)

    @catch(var="failure", print_exception=False)
    @step
    def risky(self):
        """Fail for good, and go on."""
        raise ValueError("caught")
        self.next(self.end)

    @step
    def end(self):
        """Done."""
        print("sum", self.sum)


if __name__ == "__main__":
    ShapesFlow()
