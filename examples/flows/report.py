"""Reports on both models with Evidently, as cards: how they do now, and how far the foods have moved away."""

import foods
from metaflow import FlowSpec, Parameter, card, resources, step

MODELS = ("LinearRegressionFlow", "BoostedTreesFlow")
PREDICTION = "prediction"


class ReportFlow(FlowSpec):
    """For each model a report on its errors and on drift, beside the foods that it was tested with."""

    sugars = Parameter("sugars", type=float, default=1.3, help="By how much the new foods' sugars are multiplied")

    @resources(cpu=1, memory=2048)
    @step
    def start(self):
        """Make new foods, that no model has seen."""
        self.new = foods.make_foods(number=1000, rows=400)
        self.new["sugars"] = (self.new["sugars"] * self.sugars).round(2)
        self.models = list(MODELS)
        self.next(self.report, foreach="models")

    @card(type="html")
    @resources(cpu=1, memory=2048)
    @step
    def report(self):
        """Predict the new foods' scores, and compare."""
        from evidently import DataDefinition, Dataset, Regression, Report
        from evidently.presets import DataDriftPreset, RegressionPreset

        trained = foods.latest(self.input)
        known = trained.testing.assign(**{PREDICTION: trained.predictions})
        new = self.new.assign(**{PREDICTION: trained.model.predict(self.new[foods.NUTRIENTS])})
        columns = [*foods.NUTRIENTS, foods.TARGET, PREDICTION]
        definition = DataDefinition(
            numerical_columns=columns, regression=[Regression(target=foods.TARGET, prediction=PREDICTION)]
        )
        current, reference = (Dataset.from_pandas(frame[columns].astype(float), definition) for frame in (new, known))
        report = Report([RegressionPreset(), DataDriftPreset(columns=foods.NUTRIENTS)]).run(current, reference)
        self.html = report.get_html_str(as_iframe=False)  # what the card shows
        self.errors_now = foods.errors(new[foods.TARGET], new[PREDICTION])
        self.next(self.join)

    @step
    def join(self, inputs):
        """Keep the figures."""
        self.errors_now = {task.input: task.errors_now for task in inputs}
        self.next(self.end)

    @step
    def end(self):
        """Tell them."""
        for model, found in self.errors_now.items():
            print(f"{model} on new foods: {found}")


if __name__ == "__main__":
    ReportFlow()
