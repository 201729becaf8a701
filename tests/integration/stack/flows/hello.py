"""A flow of two steps that succeeds, or fails where it is asked to."""

from metaflow import FlowSpec, Parameter, step


class HelloFlow(FlowSpec):
    """Greets."""

    whom = Parameter("whom", default="world")
    fail = Parameter("fail", type=bool, default=False)

    @step
    def start(self):
        """Greet, or fail."""
        if self.fail:
            raise RuntimeError(f"no greeting for {self.whom}")
        self.greeting = f"hello {self.whom}"
        self.next(self.end)

    @step
    def end(self):
        """Done."""


if __name__ == "__main__":
    HelloFlow()
