"""The flow by which a new client configuration is proved: foreach, branch, join, artifacts of some MB and a card."""

from metaflow import FlowSpec, Parameter, card, current, step
from metaflow.cards import Markdown, Table


class ProofFlow(FlowSpec):
    parts = Parameter("parts", type=int, default=3, help="How many parts the work is split into")

    @step
    def start(self):
        self.numbers = list(range(self.parts))
        self.next(self.make_data, self.make_labels)

    @step
    def make_data(self):
        # A foreach inside a branch; each task stores an artifact of a megabyte.
        self.next(self.work, foreach="numbers")

    @step
    def work(self):
        self.block = bytes([self.input % 256]) * 1024 * 1024
        self.size = len(self.block)
        self.next(self.join_work)

    @step
    def join_work(self, inputs):
        self.sizes = [task.size for task in inputs]
        self.next(self.join)

    @step
    def make_labels(self):
        self.labels = [f"part {number}" for number in self.numbers]
        self.next(self.join)

    @card
    @step
    def join(self, inputs):
        self.sizes = inputs.join_work.sizes
        self.labels = inputs.make_labels.labels
        current.card.append(Markdown(f"# {current.flow_name} run {current.run_id}"))
        rows = [[label, size] for label, size in zip(self.labels, self.sizes, strict=True)]
        current.card.append(Table(rows, ["part", "bytes"]))
        self.next(self.end)

    @step
    def end(self):
        self.total = sum(self.sizes)
        print(f"{len(self.labels)} parts, {self.total} bytes")


if __name__ == "__main__":
    ProofFlow()
