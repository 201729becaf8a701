#!/usr/bin/env python3
"""Draw docs/stack.svg: the waves of inventories/local as rows, their components as boxes.

    python docs/draw_stack.py             # write docs/stack.svg
    python docs/draw_stack.py --stdout    # print it

What a component is comes from the short description in its role's meta/argument_specs.yml. The picture needs no fonts
of its own, and brings its background along, so that it can be read on light and on dark pages.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import yaml

ROOT = Path(__file__).resolve().parents[1]
INVENTORY = ROOT / "inventories" / "local" / "stack.yml"
PICTURE = ROOT / "docs" / "stack.svg"

# All lengths are in pixels.
WIDTH = 1100  # the longest name fits into a sixth of it
MARGIN = 20
LABEL_WIDTH = 124
GAP = 12
PADDING = 14
TITLE_HEIGHT = 18
LINE_HEIGHT = 16
CHARACTER = 6.5  # of the description's font; wider than the average letter of common sans-serif fonts
ARROW = 22  # between two waves

STYLE = """
    .page { fill: #f6f8fa; stroke: #d0d7de }
    .wave { fill: #e6ebf1 }
    .label { fill: #424a53; font-weight: 600; font-size: 14px }
    .box { fill: #ffffff; stroke: #afb8c1 }
    .name { fill: #0b4f9e; font: 600 14px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }
    .text { fill: #24292f; font-size: 12px }
    .arrow { fill: none; stroke: #57606a; stroke-width: 1.5 }
    .apart { stroke-dasharray: 5 4; fill: none; stroke: #8c959f }
    text { font-family: system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif }
    @media (prefers-color-scheme: dark) {
      .page { fill: #161b22; stroke: #30363d }
      .wave { fill: #21262d }
      .label { fill: #c9d1d9 }
      .box { fill: #0d1117; stroke: #484f58 }
      .name { fill: #79c0ff }
      .text { fill: #e6edf3 }
      .arrow { stroke: #8b949e }
      .apart { stroke: #6e7681 }
    }
"""


@dataclass(frozen=True)
class Wave:
    """A group of the inventory: its name, and component -> what it is."""

    name: str
    components: dict[str, str]


def short_description(role: str) -> str:
    """Return what a role makes, in a few words."""
    specs = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text())
    return specs["argument_specs"]["main"]["short_description"]


def read_group(name: str, group: dict) -> Wave:
    return Wave(name, {component: short_description(component) for component in group["hosts"]})


def read_inventory() -> tuple[list[Wave], list[Wave]]:
    """Return the groups that are no part of the stack (the emulated account), and the stack's waves in order."""
    groups = yaml.safe_load(INVENTORY.read_text())["all"]["children"]
    waves = groups.pop("stack")["children"]
    # The groups of machines are filled by what runs in the account.
    apart = {name: group for name, group in groups.items() if "hosts" in group}
    return [read_group(*item) for item in apart.items()], [read_group(*item) for item in waves.items()]


@dataclass(frozen=True)
class Row:
    """A wave with its place: the text of its boxes is wrapped, and the longest one gives the height."""

    wave: Wave
    top: int
    apart: bool

    @property
    def box_width(self) -> float:
        count = len(self.wave.components)
        return (WIDTH - 2 * MARGIN - LABEL_WIDTH - GAP * count) / count

    @property
    def texts(self) -> dict[str, list[str]]:
        columns = int((self.box_width - 2 * PADDING) / CHARACTER)
        return {name: textwrap.wrap(text, columns) for name, text in self.wave.components.items()}

    @property
    def box_height(self) -> int:
        return 2 * PADDING + TITLE_HEIGHT + LINE_HEIGHT * max(map(len, self.texts.values()))

    @property
    def height(self) -> int:
        return self.box_height + 2 * GAP

    def draw(self) -> Iterator[str]:
        """Yield the elements of the row."""
        style = "apart" if self.apart else "wave"
        yield rectangle(style, MARGIN, self.top, WIDTH - 2 * MARGIN, self.height, 8)
        yield text("label", MARGIN + 16, self.top + self.height / 2 + 5, self.wave.name)
        for index, (name, lines) in enumerate(self.texts.items()):
            left = MARGIN + LABEL_WIDTH + index * (self.box_width + GAP)
            yield from box(left, self.top + GAP, self.box_width, self.box_height, name, lines)


def rectangle(style: str, left: float, top: float, width: float, height: float, radius: int) -> str:
    place = f'x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}"'
    return f'<rect class="{style}" {place} rx="{radius}"/>'


def text(style: str, left: float, baseline: float, content: str) -> str:
    return f'<text class="{style}" x="{left:g}" y="{baseline:g}">{escape(content)}</text>'


def box(left: float, top: float, width: float, height: float, name: str, lines: list[str]) -> Iterator[str]:
    """Yield a component: its name, and below it what it is."""
    yield rectangle("box", left, top, width, height, 6)
    yield text("name", left + PADDING, top + PADDING + 12, name)
    for number, line in enumerate(lines):
        yield text("text", left + PADDING, top + PADDING + TITLE_HEIGHT + 13 + number * LINE_HEIGHT, line)


def arrow(top: float) -> str:
    """Return the arrow from a wave to the next one."""
    middle, tip = MARGIN + LABEL_WIDTH / 2, top + ARROW - 4
    return f'<path class="arrow" d="M{middle:g} {top + 4:g} V{tip:g} m-5 -5 l5 5 l5 -5"/>'


def draw() -> str:
    """Return the picture as SVG."""
    apart, waves = read_inventory()
    elements, top = [], MARGIN
    for wave in apart + waves:
        row = Row(wave, top, apart=wave in apart)
        elements += row.draw()
        top += row.height
        if wave is not waves[-1]:
            elements.append(arrow(top))
            top += ARROW
    height = top + MARGIN
    title = f"The stack in {len(waves)} waves: " + "; ".join(f"{w.name}: {', '.join(w.components)}" for w in waves)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    page = rectangle("page", 0.5, 0.5, WIDTH - 1, height - 1, 10)
    lines = [f'{head} role="img">', f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", page, *elements]
    return "\n".join([*lines, "</svg>", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the stack from inventories/local.")
    parser.add_argument("--stdout", action="store_true", help="print the picture instead of writing docs/stack.svg")
    if parser.parse_args().stdout:
        print(draw(), end="")
    else:
        PICTURE.write_text(draw())


if __name__ == "__main__":
    main()
