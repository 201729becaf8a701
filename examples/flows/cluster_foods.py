"""Finds groups of foods with similar names: tries several numbers of groups side by side, and keeps the best."""

import foods
from metaflow import FlowSpec, card, current, resources, step
from metaflow.cards import Markdown, Table, VegaChart


class ClusterFoodsFlow(FlowSpec):
    """k-means on the vectors of EmbedFoodsFlow."""

    @step
    def start(self):
        """Fetch the vectors."""
        self.vectors = foods.latest("EmbedFoodsFlow").vectors
        self.numbers = [2, 4, 6, 8]
        self.next(self.cluster, foreach="numbers")

    @resources(cpu=1, memory=2048)
    @step
    def cluster(self):
        """Try one number of groups."""
        from sklearn.cluster import KMeans
        from sklearn.metrics import silhouette_score

        self.groups = KMeans(self.input, n_init=4, random_state=0).fit_predict(self.vectors)
        self.silhouette = float(silhouette_score(self.vectors, self.groups, sample_size=500, random_state=0))
        self.next(self.join)

    @card
    @step
    def join(self, inputs):
        """Keep the number of groups that lie farthest apart."""
        best = max(inputs, key=lambda task: task.silhouette)
        self.groups, self.silhouettes = best.groups, {task.input: round(task.silhouette, 3) for task in inputs}
        self.number = best.input
        current.card.append(Markdown(f"# {self.number} groups of foods"))
        current.card.append(Table([[k, v] for k, v in sorted(self.silhouettes.items())], ["groups", "silhouette"]))
        current.card.append(VegaChart(scatter(best.vectors[:400], self.groups[:400])))
        self.next(self.end)

    @step
    def end(self):
        """Tell what was kept."""
        print(f"{self.number} groups, silhouette {self.silhouettes[self.number]}")


def scatter(vectors, groups):
    """Return a chart of the first two dimensions, by groups."""
    values = [
        {"x": float(vector[0]), "y": float(vector[1]), "group": str(group)}
        for vector, group in zip(vectors, groups, strict=True)
    ]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "data": {"values": values},
        "mark": "point",
        "encoding": {
            "x": {"field": "x", "type": "quantitative"},
            "y": {"field": "y", "type": "quantitative"},
            "color": {"field": "group", "type": "nominal"},
        },
        "width": 500,
        "height": 300,
    }


if __name__ == "__main__":
    ClusterFoodsFlow()
