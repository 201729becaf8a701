# Copyright: the metaflow-ansible authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which files a flow's deployment is made of, and their digests: found out without starting Metaflow.

Metaflow packages the whole folder of a flow (``metaflow/package``, 2.19), its neighbours with it, and notes the commit
of the git repository in the package. By the package's digest every flow of a folder would change with each commit. So
here a file counts for a flow if it is packaged and is no *other flow*, or if a file that counts refers to it: by an
import, or by a text that is its path (``Config("c", default="c.json")``, ``IncludeFile``, ``Runner("other.py")``).
"""

from __future__ import annotations

import ast
import hashlib
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

#: What Metaflow packages where nothing else is configured (METAFLOW_DEFAULT_PACKAGE_SUFFIXES).
SUFFIXES = (".py", ".R", ".RDS")

#: A text in the code that is longer than this is no path.
LONGEST_PATH = 255


@dataclass
class File:
    """A file of the source, read at most once."""

    path: Path

    @cached_property
    def content(self):
        return self.path.read_bytes()

    @cached_property
    def digest(self):
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def _tree(self):
        if self.path.suffix != ".py":
            return None
        try:
            return ast.parse(self.content)
        except (SyntaxError, ValueError):  # Python itself will say so, if the file is ever imported
            return None

    @cached_property
    def flow_names(self):
        """The names of its classes that derive from ``FlowSpec``."""
        return [
            node.name
            for node in self._nodes(ast.ClassDef)
            if any(getattr(base, "id", getattr(base, "attr", "")) == "FlowSpec" for base in node.bases)
        ]

    @cached_property
    def modules(self):
        """The modules that it imports: ``(dots, dotted name)``, dots being those of a relative import."""
        found = {(0, alias.name) for node in self._nodes(ast.Import) for alias in node.names}
        for node in self._nodes(ast.ImportFrom):
            base = node.module or ""
            found.add((node.level, base))
            found |= {(node.level, f"{base}.{alias.name}".lstrip(".")) for alias in node.names}
        return found

    @cached_property
    def texts(self):
        """The texts in it that may be paths."""
        values = (node.value for node in self._nodes(ast.Constant))
        return {
            value
            for value in values
            if isinstance(value, str) and 0 < len(value) <= LONGEST_PATH and "\n" not in value and "\0" not in value
        }

    def _nodes(self, kind):
        return (node for node in ast.walk(self._tree) if isinstance(node, kind)) if self._tree else ()


@dataclass
class Source:
    """A folder of flows. Files that several flows share are read and parsed once."""

    root: Path
    suffixes: tuple[str, ...] = SUFFIXES
    _files: dict[Path, File] = field(default_factory=dict)
    _packages: dict[Path, dict[str, File]] = field(default_factory=dict)

    def digests(self, flow):
        """Return ``{path: digest}`` of the files that count for a flow, by their paths in the flow's folder."""
        return {name: file.digest for name, file in self._counted(flow).items()}

    def texts(self, flow):
        """Return ``{path: lines}`` of the files that count for a flow."""
        return {name: lines(file.content) for name, file in self._counted(flow).items()}

    def _counted(self, flow):
        """Return the files that count for a flow.

        :param str flow: the flow's file, relative to the root.
        """
        folder = (self.root / flow).parent
        package = self._package(folder)
        entry = (self.root / flow).name
        counted = {name: file for name, file in package.items() if name == entry or not file.flow_names}
        counted[entry] = self._file(folder / entry)
        waiting = list(counted.items())
        while waiting:
            name, file = waiting.pop()
            for other, found in self._references(folder, package, name, file).items():
                if other not in counted:
                    counted[other] = found
                    waiting.append((other, found))
        return dict(sorted(counted.items()))

    def _file(self, path):
        return self._files.setdefault(path, File(path))

    def _package(self, folder):
        """Return what Metaflow packages of a folder: hidden folders are left out, links are followed."""
        if folder not in self._packages:
            found, seen = {}, set()
            for path, folders, names in os.walk(folder, followlinks=True):
                real = os.path.realpath(path)
                folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
                seen.add(real)
                for name in names:
                    if not name.startswith(".") and name.lower().endswith(self._lower_suffixes):
                        whole = Path(path, name)
                        found[whole.relative_to(folder).as_posix()] = self._file(whole)
            self._packages[folder] = found
        return self._packages[folder]

    @cached_property
    def _lower_suffixes(self):
        return tuple(suffix.lower() for suffix in self.suffixes)

    def _references(self, folder, package, name, file):
        """Return the files that ``file`` refers to."""
        found = {}
        for dots, module in file.modules:
            parents = Path(name).parts[:-dots] if dots else ()
            path = "/".join((*parents, *module.split(".")))
            for candidate in (f"{path}.py", f"{path}/__init__.py"):
                if candidate in package:
                    found[candidate] = package[candidate]
        for text in file.texts:
            for base in {folder, file.path.parent}:
                path = Path(os.path.normpath(base / text))
                if path.is_relative_to(self.root) and path.is_file():
                    found[os.path.relpath(path, folder)] = self._file(path)
        return found


def lines(content):
    """Return a file's content as lines, or as its digest where it is no text."""
    try:
        return content.decode().splitlines()
    except UnicodeDecodeError:
        return [f"sha256 {hashlib.sha256(content).hexdigest()}"]
