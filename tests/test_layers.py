"""The house's floors: which room imports which, and that the light rooms stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
HOUSE = SRC / "obverse"

GROUND = {"errors", "seeds", "queries"}
NOUNS = {"tasks", "models", "metrics", "runs"}
VERBS = {"catalog", "scoring", "objectives", "reports"}
PROCEDURES = {"labelling", "classifier", "training", "evaluation"}

# Room -> the rooms it may import; its own files always. The table is the rule: a new line in it is a decision.
ALLOWED: dict[str, set[str]] = {
    # 1 ground
    "errors": set(),
    "seeds": set(),
    "queries": set(),
    # 2 nouns: they do not know each other
    "tasks": GROUND,
    "models": GROUND,
    "metrics": GROUND,
    "runs": GROUND,
    # 3 verbs: the rooms named, and never a model
    "catalog": GROUND | {"tasks"},
    "scoring": GROUND | {"tasks"},
    "objectives": GROUND | {"tasks"},
    "reports": GROUND | {"runs", "metrics"},
    # 4 procedures: floors 1 to 3, and labelling, which is the classifier's engine
    "labelling": GROUND | NOUNS | VERBS,
    "classifier": GROUND | NOUNS | VERBS | {"labelling"},
    # runs: what a folder that is written to asks of the disk
    "training": GROUND | {"objectives", "tasks", "models", "runs"},
    "evaluation": GROUND | NOUNS | VERBS | {"labelling"},
    # 5 faces
    "recipes": GROUND | NOUNS | VERBS | PROCEDURES,
    # 6 door: faces and errors; what else it may name is listed file by file in DOOR
    "cli": {"errors", "recipes", "__init__"},
    # The package's own entry hands over to the door.
    "__main__": {"cli"},
    # The public surface names rooms for type checkers only; see the test of its lazy loading.
    "__init__": set(),
}

# What the door may name beyond faces and errors: the picture's file ending is checked before any work, converting a
# folder is one call of the models' room, and labels are parsed where they are typed.
DOOR = {"obverse.reports.figures", "obverse.reports.typography", "obverse.models.checkpoints", "obverse.models.bundled",
        "obverse.tasks.labels"}  # fmt: skip

FILES = sorted(HOUSE.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """`obverse.tasks.labels` -> `tasks`; the package itself -> `__init__`."""
    return module.split(".")[1] if "." in module else "__init__"


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


@cache
def imports(path: Path) -> tuple[tuple[str, int, bool, bool], ...]:
    """(module, line, only for type checkers, inside a function) of every import statement, resolved to a file."""
    found: list[tuple[str, int, bool, bool]] = []

    def visit(node: ast.AST, typing: bool, inside: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend((alias.name, node.lineno, typing, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: relative imports hide which room is meant"
            base = str(node.module)
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                found.append((deeper if is_module(deeper) else base, node.lineno, typing, inside))
        for child in ast.iter_child_nodes(node):
            visit(child, typing or is_type_checking(node), inside or isinstance(node, ast.FunctionDef))

    visit(ast.parse(path.read_text(encoding="utf-8")), False, False)
    return tuple(found)


def is_module(name: str) -> bool:
    path = SRC / name.replace(".", "/")
    return name.startswith("obverse.") and (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file())


def test_every_room_stands_in_the_table():
    assert {room_of(module_name(path)) if path.name != "__init__.py" or path.parent != HOUSE else "__init__"
            for path in FILES} == set(ALLOWED)  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(HOUSE)))
def test_imports_keep_to_the_floors(path):
    room = room_of(module_name(path))
    if room == "__init__":
        assert all(typing for name, _, typing, _ in imports(path) if name.split(".")[0] == "obverse")
        return
    for name, line, _, _ in imports(path):
        if name.split(".")[0] != "obverse":
            continue
        other = room_of(name)
        allowed = other == room or other in ALLOWED[room] or (room == "cli" and name in DOOR)
        assert allowed, f"{path.name}, line {line}: {room} imports {name}"


def test_the_table_itself_climbs_no_stairs():
    floors = [GROUND, NOUNS, VERBS, PROCEDURES, {"recipes"}, {"cli"}]
    floor = {room: number for number, rooms in enumerate(floors) for room in rooms}
    for room, allowed in ALLOWED.items():
        if room in floor:
            assert all(floor[other] <= floor[room] for other in allowed if other != "__init__"), room
    assert not any("models" in ALLOWED[room] for room in VERBS | NOUNS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(HOUSE)))
def test_the_package_imports_no_tests(path):
    for name, line, _, _ in imports(path):
        top = name.split(".")[0]
        assert top not in ("tests", "tiny", "conftest", "pytest", "hypothesis"), line
        assert not top.startswith("test_"), line


def test_torch_lives_in_its_rooms():
    for path in FILES:
        room = room_of(module_name(path))
        for name, line, typing, _ in imports(path):
            if name.split(".")[0] in ("torch", "transformers") and not typing:
                where = f"{path.relative_to(HOUSE)}, line {line}"
                assert room in ("models", "training", "recipes") or path.name == "losses.py", where


def test_no_circular_imports():
    # Imports inside functions count too: they would only hide a circle.
    graph = {
        module_name(path): {name for name, _, typing, _ in imports(path) if is_module(name) and not typing}
        for path in FILES
    }
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name in done:
            return
        for other in sorted(graph.get(name, ())):
            walk(other, (*trail, name))
        done.add(name)

    for name in sorted(graph):
        walk(name, ())
    assert len(done) >= len(FILES)


TORCH_ROOMS = ("obverse.models.", "obverse.training.", "obverse.objectives.losses", "obverse.__main__")
PLAIN_MODELS = ("base", "plan", "counting", "conventions")
LIGHT = [
    name
    for name in map(module_name, FILES)
    if not name.startswith(TORCH_ROOMS) or name in {f"obverse.models.{plain}" for plain in PLAIN_MODELS}
]


def loaded_after(statements: str) -> set[str]:
    """The top-level packages that a fresh interpreter holds after `statements`."""
    code = f"import sys\nsys.path.insert(0, {str(SRC)!r})\n{statements}\n" + (
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return set(run.stdout.split())


def test_the_light_rooms_load_no_torch():
    for name in (
        "obverse",
        "obverse.classifier",
        "obverse.cli.main",
        "obverse.models.counting",
        "obverse.runs.partial",
    ):
        assert name in LIGHT
    loaded = loaded_after("\n".join(f"import {name}" for name in LIGHT))
    assert "obverse" in loaded
    assert not loaded & {"torch", "transformers", "tokenizers", "sentencepiece"}


def test_the_package_alone_loads_no_library():
    loaded = loaded_after("import obverse\nobverse.Query; obverse.LabelSet; obverse.DataError")
    assert not loaded & {"torch", "transformers", "sklearn", "scipy", "numpy", "pyarrow", "matplotlib", "yaml"}


def test_the_public_surface_keeps_its_word():
    import obverse

    for name in obverse.__all__:
        assert getattr(obverse, name) is not None
    # Every name that is fetched lazily is also known to type checkers, from the same room.
    tree = ast.parse((HOUSE / "__init__.py").read_text(encoding="utf-8"))
    typed = {
        alias.name: node.module
        for block in tree.body
        if is_type_checking(block)
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == obverse._ROOMS
    with pytest.raises(AttributeError, match="no attribute 'Scorers'"):
        _ = obverse.Scorers
