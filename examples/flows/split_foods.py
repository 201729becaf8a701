"""Splits the foods into thirds for training, validation and testing."""

import foods
from metaflow import FlowSpec, Parameter, resources, step

PARTS = ("training", "validation", "testing")


class SplitFoodsFlow(FlowSpec):
    """A third of the foods for each purpose; the same foods in each third at every run."""

    seed = Parameter("seed", type=int, default=7, help="Another one splits in another way")

    @resources(cpu=1, memory=2048)
    @step
    def start(self):
        """Shuffle the foods, and deal them out."""
        shuffled = foods.latest("FoodsFlow").foods.sample(frac=1, random_state=self.seed)
        self.thirds = {part: shuffled.iloc[number::3].reset_index(drop=True) for number, part in enumerate(PARTS)}
        self.parts = list(PARTS)
        self.next(self.label, foreach="parts")

    @step
    def label(self):
        """Index a third, with its label, where there is an ELK host."""
        labeled = self.thirds[self.input].assign(label=self.input)
        self.indexed = foods.index_documents("labeled", labeled.to_dict("records"))
        self.next(self.join)

    @step
    def join(self, inputs):
        """Keep the thirds by their names."""
        self.training, self.validation, self.testing = (inputs[0].thirds[part] for part in PARTS)
        self.indexed = sum(task.indexed for task in inputs)
        self.next(self.end)

    @step
    def end(self):
        """Tell their sizes."""
        for part in PARTS:
            print(f"{len(getattr(self, part))} foods for {part}")


if __name__ == "__main__":
    SplitFoodsFlow()
