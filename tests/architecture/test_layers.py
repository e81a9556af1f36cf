"""The house's rules: who may import whom, who reads the environment, which layer reads which, where a dialect may stand."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from c360_assets.settings import PROJECT, Settings
from c360_assets.warehouse import open_warehouse
from tests.architecture import flow
from tests.parts import manifest_of

PACKAGE = PROJECT / "c360_assets"
DBT = PROJECT / "dbt"
MODULES = sorted(PACKAGE.rglob("*.py"))
GENERATOR = sorted((PROJECT / "generator").glob("*.py"))
BENCHES = sorted((PROJECT / "bench").glob("[a-z]*.py"))
ROOMS = {"landing", "staging", "transform", "checks"}
# Who hands an environment on to a child process, or sets the one it starts with.
HANDS_ON = {"local", "parts", "transform", "commands", "commands_services"}


def named(paths: list[Path]) -> list[Any]:
    return [pytest.param(path, id=path.stem) for path in paths]


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imported(tree: ast.AST, package: str) -> set[str]:
    """Full names of the modules that are imported anywhere in the tree, in functions too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(part for part in ((package if node.level else ""), node.module) if part)
            # `from package import name` may mean a module or a value: both are given.
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def ours(path: Path) -> set[str]:
    """Which modules and rooms of c360_assets it imports."""
    there = {module.relative_to(PACKAGE).parts[0].removesuffix(".py") for module in MODULES}
    names = imported(tree_of(path), "c360_assets")
    return {n.split(".")[1] for n in names if n.startswith("c360_assets.")} & there


def reads_environment(tree: ast.AST) -> Iterator[int]:
    """Lines at which the process's environment is touched."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "getenvb", "putenv"):
            yield node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (node.lineno for alias in node.names if alias.name in ("environ", "environb", "getenv"))


def takes_one_value(tree: ast.AST) -> Iterator[int]:
    """Lines at which one name is read out of the environment: `os.environ[...]`, `.get`, `os.getenv`."""

    def is_environ(node: ast.AST) -> bool:
        return isinstance(node, ast.Attribute) and node.attr == "environ"

    for node in ast.walk(tree):
        if (isinstance(node, ast.Subscript) and is_environ(node.value) and isinstance(node.ctx, ast.Load)) or (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and (node.func.attr == "getenv" or (node.func.attr == "get" and is_environ(node.func.value)))
        ):
            yield node.lineno


def swallowing(tree: ast.AST) -> Iterator[int]:
    """Lines of `except:` and of handlers that catch everything and do nothing."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = ast.unparse(node.type) if node.type else ""
        nothing = all(
            isinstance(s, ast.Pass | ast.Continue) or (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
            for s in node.body
        )
        if node.type is None or (nothing and re.search(r"\b(Base)?Exception\b", caught)):
            yield node.lineno


# --- Python


@pytest.mark.parametrize("room", ["landing", "transform", "checks"])
def test_landing_transform_and_checks_import_no_room_beside_them(room: str) -> None:
    assert ours(PACKAGE / f"{room}.py") & (ROOMS - {room}) == set()


def test_staging_imports_of_the_rooms_only_landing() -> None:
    assert ours(PACKAGE / "staging.py") & (ROOMS - {"staging"}) <= {"landing"}


@pytest.mark.parametrize("module", ["declared", "settings", "automation"])
def test_settings_and_automation_import_nothing_of_ours(module: str) -> None:
    assert ours(PACKAGE / f"{module}.py") == set()


def test_feeds_know_of_declarations_alone() -> None:
    assert ours(PACKAGE / "feeds.py") == {"declared", "expectations", "instants"}
    assert ours(PACKAGE / "expectations.py") == {"declared"}


@pytest.mark.parametrize("module", named([m for m in MODULES if m.stem not in ("definitions", "commands", "runs")]))
def test_only_commands_and_runs_import_the_wiring(module: Path) -> None:
    assert "definitions" not in ours(module)


@pytest.mark.parametrize("module", named(MODULES))
def test_only_settings_reads_the_environment(module: Path) -> None:
    if module.stem == "settings":
        assert list(reads_environment(tree_of(module))), "the rule sees the one reader there is"
    elif module.stem in HANDS_ON:
        read = list(takes_one_value(tree_of(module)))
        # transform puts back what it found, by name of what it set itself.
        allowed = 1 if module.stem == "transform" else 0
        assert len(read) <= allowed, f"{module.name} lines {read} read a setting past settings.py"
    else:
        assert list(reads_environment(tree_of(module))) == []


@pytest.mark.parametrize("module", named(GENERATOR))
def test_the_generator_imports_nothing_of_the_platform(module: Path) -> None:
    names = imported(tree_of(module), "generator")
    assert {n for n in names if n.split(".")[0] in ("c360_assets", "tests", "dagster")} == set()


@pytest.mark.parametrize("module", named([*MODULES, *GENERATOR]))
def test_no_module_reaches_into_private_parts_of_dagster(module: Path) -> None:
    names = imported(tree_of(module), module.parent.name)
    assert {n for n in names if re.match(r"dagster(_\w+)?\.(.*\.)?_", n)} == set()


@pytest.mark.parametrize("module", named(MODULES))
def test_no_module_is_longer_than_400_lines(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= 400


def test_definitions_is_wiring_of_less_than_100_lines() -> None:
    assert len((PACKAGE / "definitions.py").read_text().splitlines()) < 100


@pytest.mark.parametrize("module", named([*MODULES, *GENERATOR]))
def test_no_error_is_swallowed(module: Path) -> None:
    assert list(swallowing(tree_of(module))) == []


@pytest.mark.parametrize("module", named([m for m in MODULES if m.stem != "__init__"]))
def test_every_module_opens_with_its_charter(module: Path) -> None:
    assert ast.get_docstring(tree_of(module))


@pytest.mark.parametrize("module", named(BENCHES))
def test_every_benchmark_finds_what_it_imports(module: Path) -> None:
    """Nothing else runs them but people, and late."""
    try:
        importlib.import_module(f"bench.{module.stem}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("bench", "c360_assets", "generator", "serving", "tests"):
            raise
        pytest.skip(f"{error.name} is of an extra that is not installed")


def test_the_rules_see_what_they_forbid() -> None:
    def tree(text: str) -> ast.Module:
        return ast.parse(text)

    assert list(reads_environment(tree("import os\nx = os.environ['A']"))) == [2]
    assert list(reads_environment(tree("from os import getenv"))) == [1]
    assert list(takes_one_value(tree("import os\nos.environ.get('A')\nos.getenv('A')\nos.environ['A']"))) == [2, 3, 4]
    assert list(takes_one_value(tree("import os\nos.environ['A'] = '1'\nx = os.environ | {}"))) == []
    assert list(swallowing(tree("try:\n  f()\nexcept:\n  g()"))) == [3]
    assert list(swallowing(tree("try:\n  f()\nexcept Exception:\n  pass"))) == [3]
    assert list(swallowing(tree("try:\n  f()\nexcept (OSError, Exception):\n  ..."))) == [3]
    assert list(swallowing(tree("try:\n  f()\nexcept OSError:\n  pass"))) == []
    assert imported(tree("def f():\n  from . import landing"), "c360_assets") >= {"c360_assets.landing"}


# --- dbt


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    home = tmp_path_factory.mktemp("home")
    _, written = manifest_of(open_warehouse(Settings.load({"C360_HOME": str(home)})), DBT)
    return written


def models(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [n for n in manifest["nodes"].values() if n["resource_type"] == "model"]


def read_by(manifest: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, str]:
    """{what the model reads: its layer}; a source's layer is its schema. What it only waits for, it does not read."""
    nodes = {**manifest["nodes"], **manifest["sources"]}
    waits = model["config"]["meta"].get("waits_for") or ()
    return {
        parent: nodes[parent]["schema"]
        for parent in model["depends_on"]["nodes"]
        if not parent.startswith("macro.") and parent.split(".")[-1] not in waits
    }


# What a model of the layer may read: layers of models, and whether sources.
MAY_READ = {
    "staging": (set(), True),
    "clean": ({"clean"}, True),
    "core": ({"clean", "core"}, False),
    "vault": ({"clean", "vault"}, False),
    "gold": ({"core", "vault", "gold"}, False),
    "serving": ({"gold"}, False),
}


def test_every_model_stands_in_a_layer_which_is_its_folder(manifest: Mapping[str, Any]) -> None:
    found = models(manifest)
    assert found
    for model in found:
        assert model["schema"] in MAY_READ, model["name"]
        assert Path(model["original_file_path"]).parts[1] == model["schema"], model["name"]


def test_data_goes_one_way_through_the_layers(manifest: Mapping[str, Any]) -> None:
    wrong = []
    for model in models(manifest):
        layers, sources = MAY_READ[model["schema"]]
        for parent, layer in read_by(manifest, model).items():
            of_source = parent.startswith("source.")
            if (layer != "staging" or not sources) if of_source else layer not in layers:
                wrong.append(f"{model['schema']}.{model['name']} reads {parent}")
    assert wrong == []


def test_what_a_model_waits_for_stands_in_a_comment_of_it_and_nowhere_else(manifest: Mapping[str, Any]) -> None:
    """Else something new there would change the model, and a sync would not make it."""
    waiting = {m["name"]: m for m in models(manifest) if m["config"]["meta"].get("waits_for")}
    assert {"pos_line", "fct_order_items", "v_customer_change_data"} <= waiting.keys()
    for model in waiting.values():
        for name in model["config"]["meta"]["waits_for"]:
            lines = [line for line in model["raw_code"].splitlines() if f"ref('{name}')" in line]
            assert lines and all(line.startswith("-- ") for line in lines), model["name"]


def test_the_diagrams_of_flow_and_star_are_as_the_manifest_has_them(manifest: Mapping[str, Any]) -> None:
    assert flow.DOCUMENT.read_text() == flow.document(manifest), "python -m tests.architecture.flow writes it anew"


def test_staging_holds_sources_only_and_no_other_layer_has_any(manifest: Mapping[str, Any]) -> None:
    assert {s["schema"] for s in manifest["sources"].values()} == {"staging"}


def test_tests_of_a_layer_read_no_layer_below_it(manifest: Mapping[str, Any]) -> None:
    """A test that reads a later layer would hold up its own by what comes after."""
    order = list(MAY_READ)
    wrong = []
    for test in (n for n in manifest["nodes"].values() if n["resource_type"] == "test" and n.get("attached_node")):
        attached = manifest["nodes"].get(test["attached_node"])
        if attached is None:
            continue
        later = order[order.index(attached["schema"]) + 1 :]
        wrong += [f"{test['name']} reads {p}" for p, layer in read_by(manifest, test).items() if layer in later]
    assert wrong == []


def test_every_model_and_every_feed_says_what_it_is(manifest: Mapping[str, Any]) -> None:
    described = [*models(manifest), *manifest["sources"].values()]
    assert [n["name"] for n in described if not n["description"].strip()] == []


@pytest.mark.parametrize("word", ["target.type", "duckdb__", "snowflake__", "adapter.dispatch", "default__"])
def test_only_the_dialect_file_knows_an_engine(word: str) -> None:
    files = [
        p
        for folder in ("models", "macros", "tests", "snapshots", "analyses", "seeds")
        for p in (DBT / folder).rglob("*")
        if p.suffix in (".sql", ".yml")
    ]
    files += [DBT / "dbt_project.yml"]
    found = {p.relative_to(DBT).as_posix() for p in files if word in p.read_text()}
    # Without its comments: the file may say what others must not.
    dialect = re.sub(r"{#.*?#}", "", (DBT / "macros" / "dialect.sql").read_text(), flags=re.DOTALL)
    if word in ("target.type", "default__"):
        assert word not in dialect
        assert found <= {"macros/dialect.sql"}
    else:
        assert found == {"macros/dialect.sql"}


def test_models_name_their_relations_by_ref_and_source_only() -> None:
    """A schema written out would be an edge that neither dbt nor Dagster knows of."""
    written = re.compile(r"\b(from|join)\s+(staging|clean|core|vault|gold|serving)\.", re.IGNORECASE)
    found = [p.relative_to(DBT).as_posix() for p in (DBT / "models").rglob("*.sql") if written.search(p.read_text())]
    assert found == []


@pytest.mark.parametrize("word", ["current_timestamp", "current_date", "now()", "sysdate", "getdate"])
def test_no_model_takes_the_clock_for_business_time(word: str) -> None:
    found = [p.relative_to(DBT).as_posix() for p in (DBT / "models").rglob("*.sql") if word in p.read_text().lower()]
    assert found == []
