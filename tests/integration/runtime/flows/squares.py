"""The smallest flow that fans out, fails once, and joins."""

import os

from metaflow import FlowSpec, current, retry, step


class SquaresFlow(FlowSpec):
    """Squares two numbers, each in a task of its own."""

    @step
    def start(self):
        """Say who runs it."""
        self.job = os.environ.get("AWS_BATCH_JOB_ID")
        print("hello from start")
        self.items = [2, 3]
        self.next(self.square, foreach="items")

    @retry(times=1, minutes_between_retries=0)
    @step
    def square(self):
        """Fail once for one item."""
        if self.input == 3 and current.retry_count == 0:
            raise RuntimeError("the first attempt fails")
        self.attempt = current.retry_count
        self.result = self.input**2
        self.next(self.total)

    @step
    def total(self, inputs):
        """Join the squares."""
        self.merge_artifacts(inputs, include=["job"])
        self.sum = sum(one.result for one in inputs)
        self.attempts = [one.attempt for one in sorted(inputs, key=lambda one: one.input)]
        self.next(self.end)

    @step
    def end(self):
        """Done."""


if __name__ == "__main__":
    SquaresFlow()
