"""Predicts the score from the nutrients by boosted trees."""

import foods
from metaflow import FlowSpec, card, current, resources, step
from metaflow.cards import Markdown, Table


class BoostedTreesFlow(FlowSpec):
    """XGBoost with trees of several depths; validation decides, testing tells."""

    @step
    def start(self):
        """Fetch the thirds."""
        split = foods.latest("SplitFoodsFlow")
        self.training, self.validation, self.testing = split.training, split.validation, split.testing
        self.depths = [2, 4, 6]
        self.next(self.train, foreach="depths")

    @resources(cpu=1, memory=2048)
    @step
    def train(self):
        """Train one; it stops when validation gets no better."""
        from xgboost import XGBRegressor

        self.model = XGBRegressor(
            max_depth=self.input, n_estimators=300, learning_rate=0.1, early_stopping_rounds=10, n_jobs=1
        )
        validation = (self.validation[foods.NUTRIENTS], self.validation[foods.TARGET])
        training = (self.training[foods.NUTRIENTS], self.training[foods.TARGET])
        self.model.fit(*training, eval_set=[validation], verbose=False)
        self.validated = foods.errors(validation[1], self.model.predict(validation[0]))
        self.next(self.choose)

    @card
    @step
    def choose(self, inputs):
        """Keep the best, and test it."""
        best = min(inputs, key=lambda task: task.validated["rmse"])
        self.model, self.depth, self.testing = best.model, best.input, best.testing
        self.predictions = self.model.predict(self.testing[foods.NUTRIENTS])
        self.tested = foods.errors(self.testing[foods.TARGET], self.predictions)
        current.card.append(Markdown(f"# Boosted trees: RMSE {self.tested['rmse']} on {len(self.testing)} foods"))
        rows = sorted([task.input, task.model.best_iteration + 1, *task.validated.values()] for task in inputs)
        current.card.append(Table(rows, ["depth", "trees", *self.tested]))
        self.next(self.end)

    @step
    def end(self):
        """Tell how it did."""
        print(f"depth {self.depth}: {self.tested}")


if __name__ == "__main__":
    BoostedTreesFlow()
