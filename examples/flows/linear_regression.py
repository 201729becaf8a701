"""Predicts the score from the nutrients by a line."""

import foods
from metaflow import FlowSpec, card, current, resources, step
from metaflow.cards import Markdown, Table


class LinearRegressionFlow(FlowSpec):
    """Ridge regressions of several strengths; validation decides, testing tells."""

    @step
    def start(self):
        """Fetch the thirds."""
        split = foods.latest("SplitFoodsFlow")
        self.training, self.validation, self.testing = split.training, split.validation, split.testing
        self.strengths = [0.1, 1.0, 10.0]
        self.next(self.train, foreach="strengths")

    @resources(cpu=1, memory=2048)
    @step
    def train(self):
        """Train one, and see how it does on what it has not seen."""
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self.model = make_pipeline(StandardScaler(), Ridge(self.input))
        self.model.fit(self.training[foods.NUTRIENTS], self.training[foods.TARGET])
        predicted = self.model.predict(self.validation[foods.NUTRIENTS])
        self.validated = foods.errors(self.validation[foods.TARGET], predicted)
        self.next(self.choose)

    @card
    @step
    def choose(self, inputs):
        """Keep the best, and test it."""
        best = min(inputs, key=lambda task: task.validated["rmse"])
        self.model, self.strength, self.testing = best.model, best.input, best.testing
        self.predictions = self.model.predict(self.testing[foods.NUTRIENTS])
        self.tested = foods.errors(self.testing[foods.TARGET], self.predictions)
        current.card.append(Markdown(f"# Linear regression: RMSE {self.tested['rmse']} on {len(self.testing)} foods"))
        rows = sorted([task.input, *task.validated.values()] for task in inputs)
        current.card.append(Table(rows, ["strength", *self.tested]))
        weights = self.model[-1].coef_.round(2).tolist()
        rows = [[name, weight] for name, weight in zip(foods.NUTRIENTS, weights, strict=True)]
        current.card.append(Table(rows, ["nutrient", "weight"]))
        self.next(self.end)

    @step
    def end(self):
        """Tell how it did."""
        print(f"strength {self.strength}: {self.tested}")


if __name__ == "__main__":
    LinearRegressionFlow()
