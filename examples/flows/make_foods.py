"""Makes the foods that the other flows work on, part by part, as a download of pages would."""

import foods
from metaflow import FlowSpec, Parameter, resources, retry, step


class FoodsFlow(FlowSpec):
    """Foods with their nutrients and a score."""

    parts = Parameter("parts", type=int, default=3, help="How many parts there are")
    rows = Parameter("rows", type=int, default=400, help="How many foods a part has")

    @step
    def start(self):
        """Say which parts there are."""
        self.numbers = list(range(self.parts))
        self.next(self.make, foreach="numbers")

    @retry
    @resources(cpu=1, memory=2048)
    @step
    def make(self):
        """Make one part."""
        self.part = foods.make_foods(self.input, self.rows)
        self.next(self.join)

    @step
    def join(self, inputs):
        """Put the parts together, each food once."""
        import pandas as pd

        self.foods = pd.concat([task.part for task in inputs]).drop_duplicates("id").reset_index(drop=True)
        self.next(self.end)

    @step
    def end(self):
        """Tell how many there are."""
        print(f"{len(self.foods)} foods of {self.foods.kind.nunique()} kinds")


if __name__ == "__main__":
    FoodsFlow()
