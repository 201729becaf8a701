"""Turns the foods' names into vectors, chunk by chunk, and indexes them where there is an ELK host."""

import foods
from metaflow import FlowSpec, Parameter, resources, retry, step


class EmbedFoodsFlow(FlowSpec):
    """A vector for each food: words and parts of words, in few dimensions (latent semantic analysis)."""

    dimensions = Parameter("dimensions", type=int, default=8, help="Length of a vector")
    chunk = Parameter("chunk", type=int, default=300, help="How many foods a task embeds")

    @resources(cpu=1, memory=2048)
    @step
    def start(self):
        """Learn the vector space from all names."""
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_pipeline

        self.foods = foods.latest("FoodsFlow").foods
        words = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4))
        self.space = make_pipeline(words, TruncatedSVD(self.dimensions, random_state=0)).fit(self.foods["name"])
        self.beginnings = list(range(0, len(self.foods), self.chunk))
        self.next(self.embed, foreach="beginnings")

    @retry
    @resources(cpu=1, memory=2048)
    @step
    def embed(self):
        """Embed a chunk, and index it."""
        part = self.foods.iloc[self.input : self.input + self.chunk]
        self.vectors = self.space.transform(part["name"])
        documents = part.assign(embedding=self.vectors.tolist()).to_dict("records")
        self.indexed = foods.index_documents("nutrients", documents)
        self.next(self.join)

    @step
    def join(self, inputs):
        """Put the vectors together, in the foods' order."""
        import numpy as np

        self.ids = inputs[0].foods["id"].to_numpy()
        self.vectors = np.concatenate([task.vectors for task in inputs])
        self.indexed = sum(task.indexed for task in inputs)
        self.next(self.end)

    @step
    def end(self):
        """Tell their shape."""
        print(f"{self.vectors.shape[0]} vectors of {self.vectors.shape[1]} dimensions")


if __name__ == "__main__":
    EmbedFoodsFlow()
