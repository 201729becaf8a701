"""A flow with a parameter, a branch, a join, a task that is retried and one whose failure is caught."""

from metaflow import FlowSpec, Parameter, catch, current, retry, step


class ShapesFlow(FlowSpec):
    """Runs as a state machine."""

    width = Parameter("width", type=int, default=3)

    @step
    def start(self):
        """Branch."""
        self.next(self.left, self.right)

    @retry(times=1, minutes_between_retries=0)
    @step
    def left(self):
        """Fail once."""
        if current.retry_count == 0:
            raise RuntimeError("the first attempt fails")
        self.attempt = current.retry_count
        self.next(self.both)

    @catch(var="failure", print_exception=False)
    @step
    def right(self):
        """Fail for good, and go on."""
        self.value = int("no number")
        self.next(self.both)

    @step
    def both(self, inputs):
        """Join the branches."""
        self.attempt = inputs.left.attempt
        self.failure = str(inputs.right.failure)
        self.square = self.width**2
        self.next(self.end)

    @step
    def end(self):
        """Done."""


if __name__ == "__main__":
    ShapesFlow()
