"""Which names of TensorRT's Python API the on-device runner uses, and which of them each version has.

    python tools/tensorrt_api_names.py FOLDER      FOLDER holds 10.3.json, 10.13.json, …: dumps of the bindings

writes tests/targets/on_device/tensorrt_names.json: of each version the names that the runner uses and those that were
removed between the first version and the last, and nothing else of NVIDIA's. A dump is {class or enum: {"kind",
"members" or "values"}}, made by importing the bindings wheel of that version.

The runner's source is read, not run: every object of TensorRT has its class beside it (`engine: trt.ICudaEngine`), so
that `engine.num_io_tensors` is known to be a name of ICudaEngine. What has no class beside it is reported.
"""

import ast
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCES = sorted((REPOSITORY / "targets" / "on_device").glob("tensor_rt*.py"))
VERSIONS_FILE = REPOSITORY / "targets" / "on_device" / "tensor_rt_versions.py"
NAMES_FILE = REPOSITORY / "tests" / "targets" / "on_device" / "tensorrt_names.json"
ORIGIN = (
    "Names alone, of the classes of the Python bindings tensorrt-cu12-bindings 10.3.0, 10.13.3.9, 10.16.1.11, "
    "tensorrt-cu13-bindings 11.4.0.106 and tensorrt-rtx 1.7.1.116: those that the runner uses and those removed "
    "between 10.3 and 11.4. Written by tools/tensorrt_api_names.py."
)
MODULE = "trt"
BASES = {"ILayer", "ITensor"}  # what was removed from these was removed from every layer
TABLES = {"ITEM": "DataType"}
OF_ENUMS = {"name", "value"}  # every enum of the bindings has them; the dumps list the values alone


@dataclass(frozen=True)
class Use:
    """owner.member at a line; below and above: the versions under whose `if` it stands, where it stands under one."""

    owner: str
    member: str
    where: str
    below: tuple[int, ...] | None = None
    above: tuple[int, ...] | None = None

    def reached_by(self, version: tuple[int, ...]) -> bool:
        """Whether this version runs the line."""
        return (self.below is None or version < self.below) and (self.above is None or version >= self.above)


@dataclass
class Reader:
    """Of one file: what it uses, and what it does not say."""

    file: str
    limits: dict[str, tuple[int, ...]]
    fields: dict[str, str]
    uses: list[Use] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)

    def block(self, nodes: list[ast.stmt], known: dict[str, str], guard: dict[str, tuple[int, ...]]) -> None:
        """Statements in order; `known` are the names whose class is told, `guard` the versions that come here."""
        for node in nodes:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                inner = dict(known)
                if isinstance(node, ast.FunctionDef):
                    for each in [*node.args.args, *node.args.kwonlyargs]:
                        self._tell(inner, each.arg, each.annotation)
                self.block(node.body, inner, guard)
            elif isinstance(node, ast.If):
                self._expression(node.test, known, guard)
                inside, outside = self._limits(node.test)
                self.block(node.body, known, {**guard, **inside})
                self.block(node.orelse, known, {**guard, **outside})
            else:
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    self._tell(known, node.target.id, node.annotation)
                if isinstance(node, ast.Assign) and self._made_by_tensorrt(node.value, known):
                    self.untold += [
                        f"{self.file}:{node.lineno}: {target.id} has no class beside it"
                        for target in node.targets
                        if isinstance(target, ast.Name) and target.id not in known
                    ]
                for part in ast.iter_child_nodes(node):
                    if isinstance(part, ast.expr):
                        self._expression(part, known, guard)
                for name in ("body", "orelse", "finalbody"):
                    self.block(getattr(node, name, []), known, guard)
                for handler in getattr(node, "handlers", []):
                    self.block(handler.body, known, guard)

    def _expression(self, tree: ast.expr, known: dict[str, str], guard: dict[str, tuple[int, ...]]) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                owner = self._owner(node.value, known)
                if owner:
                    self._use(owner, node.attr, node.lineno, guard)
                elif isinstance(node.value, ast.Call) and self._made_by_tensorrt(node.value, known):
                    self.untold.append(f"{self.file}:{node.lineno}: .{node.attr} of a result whose class is not told")
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "type" and len(node.args) == 3:
                self._made_class(node, known, guard)

    def _made_class(self, node: ast.Call, known: dict[str, str], guard: dict[str, tuple[int, ...]]) -> None:
        """type("Monitor", (trt.IProgressMonitor,), {"phase_start": …}): its methods are names of that class."""
        bases = [self._owner(base, known) for base in getattr(node.args[1], "elts", [])]
        if not isinstance(node.args[2], ast.Dict):
            self.untold.append(f"{self.file}:{node.lineno}: the methods of a class of TensorRT stand elsewhere")
            return
        for base in filter(None, bases):
            for key in node.args[2].keys:
                self._use(base, str(getattr(key, "value", None)), node.lineno, guard)

    def _use(self, owner: str, member: str, line: int, guard: dict[str, tuple[int, ...]]) -> None:
        where = f"{self.file}:{line}"
        if owner == MODULE:
            owner, member = member, ""
        if not owner.startswith("__") and member not in OF_ENUMS:
            self.uses.append(Use(owner, member, where, guard.get("below"), guard.get("above")))

    def _owner(self, node: ast.expr, known: dict[str, str]) -> str | None:
        """The class of an expression: `trt`, a class of it, or a name whose class is told."""
        if isinstance(node, ast.Name):
            return MODULE if node.id == MODULE else known.get(node.id)
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id == MODULE:
                return node.attr
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                return self.fields.get(node.attr)
        return None

    def _made_by_tensorrt(self, node: ast.expr, known: dict[str, str]) -> bool:
        return (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and bool(self._owner(node.func.value, known))
        )

    def _tell(self, known: dict[str, str], name: str, annotation: ast.expr | None) -> None:
        """A name whose class is another's is known too: as "", which owns nothing."""
        if annotation is not None:
            known[name] = told(annotation) or ""

    def _limits(self, test: ast.expr) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
        """What `version < LIMIT` says of the versions inside, and outside where it is the whole of the test."""
        parts = test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) else [test]
        inside: dict[str, tuple[int, ...]] = {}
        outside: dict[str, tuple[int, ...]] = {}
        for part in parts:
            if not isinstance(part, ast.Compare) or not isinstance(part.ops[0], (ast.Lt, ast.GtE)):
                continue
            if ast.unparse(part.left) == "version":
                right = part.comparators[0]
                limit = self.limits[right.id] if isinstance(right, ast.Name) else tuple(ast.literal_eval(right))
                below = isinstance(part.ops[0], ast.Lt)
                inside["below" if below else "above"] = limit
                if len(parts) == 1:
                    outside["above" if below else "below"] = limit
        return inside, outside


def told(annotation: ast.expr | None) -> str | None:
    """`trt.ICudaEngine` → ICudaEngine; also as `trt.ICudaEngine | None`."""
    if isinstance(annotation, ast.BinOp):
        annotation = annotation.left
    is_class = isinstance(annotation, ast.Attribute) and ast.unparse(annotation.value) == MODULE
    return annotation.attr if is_class and isinstance(annotation, ast.Attribute) else None


def read(sources: list[Path]) -> tuple[list[Use], list[str]]:
    """All that these files use, and what they do not tell."""
    limits = dict(constants(ast.parse(VERSIONS_FILE.read_text(encoding="utf-8"))))
    uses, untold = [], []
    for path in sources:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        told_fields = {
            node.target.id: str(told(node.annotation))
            for holder in ast.walk(tree) if isinstance(holder, ast.ClassDef)
            for node in holder.body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and told(node.annotation)
        }  # fmt: skip
        reader = Reader(path.name, limits, told_fields)
        reader.block(tree.body, {}, {})
        uses += [*reader.uses, *named_in_tables(tree, path.name)]
        untold += reader.untold
    return uses, untold


def named_in_tables(tree: ast.Module, file: str) -> list[Use]:
    """Names that stand in a table as text: the keys of ITEM are types."""
    return [
        Use(TABLES[node.targets[0].id], str(getattr(key, "value", None)), f"{file}:{node.lineno}")
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in TABLES
        for key in getattr(node.value, "keys", [])
    ]


def constants(tree: ast.Module) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names of the module that stand for a version."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple) and isinstance(node.targets[0], ast.Name):
            value = ast.literal_eval(node.value)
            if all(isinstance(each, int) for each in value):
                yield node.targets[0].id, value


def names_of(dump: dict[str, Any]) -> dict[str, set[str]]:
    """Class or enum → its names."""
    return {name: {*entry.get("members", ()), *entry.get("values", ())} for name, entry in dump.items()}


def table(folder: Path, uses: list[Use]) -> dict[str, Any]:
    """What is written: per version the names used or removed, as far as it has them; of removed classes the name."""
    dumps = {path.stem: names_of(json.loads(path.read_text(encoding="utf-8"))) for path in folder.glob("*.json")}
    plain = [name for name in dumps if not name.startswith("rtx")]
    order = sorted(plain, key=lambda name: [int(part) for part in name.split(".")])
    first, last = dumps[order[0]], dumps[order[-1]]
    used = {use.owner for use in uses}
    wanted: dict[str, set[str]] = {name: set() for name in first.keys() - last.keys()}
    for name in used | BASES:
        wanted[name] = first.get(name, set()) - last.get(name, set())
    for use in uses:
        wanted[use.owner] |= {use.member} - {""}
    versions: dict[str, dict[str, str]] = {}
    for version in [*order, *(name for name in sorted(dumps) if name not in order)]:
        held = dumps[version]
        names = sorted(held.keys() & wanted.keys())
        versions[version] = {name: " ".join(sorted(held[name] & wanted[name])) for name in names}
    return {"origin": ORIGIN, "versions": versions}


def main() -> None:
    """Read the runner and the dumps; write the names."""
    uses, untold = read(SOURCES)
    if untold:
        sys.exit("\n".join(untold))
    NAMES_FILE.write_text(json.dumps(table(Path(sys.argv[1]), uses), indent=1) + "\n", encoding="utf-8")
    print(f"{NAMES_FILE.relative_to(REPOSITORY)}: {len({(use.owner, use.member) for use in uses})} names used")


if __name__ == "__main__":
    main()
