"""A flow that the stack has never seen: parameters, a branch, a foreach, joins, artifacts and a card."""

from metaflow import FlowSpec, Parameter, card, current, step
from metaflow.cards import Markdown


class LettersFlow(FlowSpec):
    """Counts the letters of a few words."""

    words = Parameter("words", default="spam eggs ham")
    padding = Parameter("padding", type=int, default=1, help="MiB of padding in each artifact")

    @step
    def start(self):
        """Branch."""
        self.next(self.split_words, self.title)

    @step
    def split_words(self):
        """Fan out over the words."""
        self.chosen = self.words.split()
        self.next(self.count, foreach="chosen")

    @step
    def count(self):
        """Count one word's letters."""
        self.letters = len(self.input)
        self.block = b"\x00\xff" * (512 * 1024 * self.padding)
        self.next(self.add)

    @step
    def add(self, inputs):
        """Join the words."""
        self.letters = {task.input: task.letters for task in inputs}
        self.next(self.both)

    @step
    def title(self):
        """The other branch."""
        self.heading = f"Letters of {self.words}"
        self.next(self.both)

    @card
    @step
    def both(self, inputs):
        """Join the branches."""
        self.letters = inputs.add.letters
        self.heading = inputs.title.heading
        current.card.append(Markdown(f"# {self.heading}"))
        self.next(self.end)

    @step
    def end(self):
        """Add up."""
        self.total = sum(self.letters.values())


if __name__ == "__main__":
    LettersFlow()
