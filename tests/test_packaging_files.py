"""The Dockerfile, the dev container and the hooks parse, and name only what exists; nothing is built."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from gql_server.settings import Settings

ROOT = Path(__file__).parents[1]
INSTRUCTIONS = {"CMD", "COPY", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN", "USER", "VOLUME", "WORKDIR"}
"""Those that the Dockerfile needs; a word that is none is most likely a mistake."""
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
MAKEFILE = (ROOT / "Makefile").read_text()


def dockerfile() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions with their arguments, continued lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    parts = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(name, arguments) for name, arguments in parts]


def last_stage() -> dict[str, str]:
    """Return the instructions of the image that is run; of those that are there twice the last."""
    instructions = dockerfile()
    start = max(place for place, (name, _) in enumerate(instructions) if name == "FROM")
    return dict(instructions[start:])


def copies() -> list[tuple[str | None, list[str]]]:
    """Return of each COPY the stage that it copies from, if any, and its sources."""
    found = []
    for name, arguments in dockerfile():
        if name == "COPY":
            words = shlex.split(arguments)
            stages = [word.removeprefix("--from=") for word in words if word.startswith("--from=")]
            sources = [word for word in words[:-1] if not word.startswith("--")]
            found.append((stages[0] if stages else None, sources))
    return found


def environment() -> dict[str, str]:
    """Return the variables that the image sets."""
    return dict(word.split("=", 1) for word in shlex.split(last_stage()["ENV"]))


def test_the_dockerfile_has_known_instructions_only() -> None:
    assert {name for name, _ in dockerfile()} <= INSTRUCTIONS


def test_the_dockerfile_copies_what_is_there_and_not_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line.removeprefix("!") for line in lines if line.startswith("!")}
    sources = [source for stage, sources in copies() if stage is None for source in sources]

    assert "*" in lines
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert Path(source).parts[0] in kept, source
    assert {Path(source).parts[0] for source in sources} == kept


def test_the_dockerfile_copies_from_its_own_stages() -> None:
    stages = {
        arguments.split(" AS ")[1]
        for name, arguments in dockerfile()
        if name == "FROM" and " AS " in arguments
    }

    assert {stage for stage, _ in copies() if stage is not None} == stages


def test_every_package_of_the_distribution_is_copied() -> None:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = configuration["tool"]["setuptools"]["packages"]["find"]["include"]
    copied = {source.rstrip("/") for _, sources in copies() for source in sources}

    assert {pattern.rstrip("*") for pattern in patterns} <= copied


def test_the_container_runs_a_console_script_as_a_user_of_its_own() -> None:
    command = json.loads(last_stage()["CMD"])

    assert command[0] in SCRIPTS
    assert command[1:] == ["serve"]
    assert last_stage()["USER"] not in ("root", "0")


def test_the_container_keeps_artifacts_in_a_volume_and_sets_known_settings_only() -> None:
    settings = {name for name in environment() if name.startswith("GQL_SERVER_")}

    assert environment()["GQL_SERVER_ARTIFACT_DIR"] in json.loads(last_stage()["VOLUME"])
    assert {name.removeprefix("GQL_SERVER_").lower() for name in settings} <= Settings.model_fields.keys()
    assert last_stage()["EXPOSE"] == str(Settings.model_fields["port"].default)


def test_the_containers_python_is_one_that_the_project_takes() -> None:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lowest, end = re.findall(r"3\.(\d+)", configuration["project"]["requires-python"])
    images = [arguments for name, arguments in dockerfile() if name == "FROM"]
    images.append(json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())["image"])
    versions = {int(minor) for image in images for minor in re.findall(r"^python:3\.(\d+)", image)}

    assert len(versions) == 1
    assert versions <= set(range(int(lowest), int(end)))


def test_the_health_check_is_a_command_that_compiles() -> None:
    arguments = last_stage()["HEALTHCHECK"]
    program, option, code = json.loads(arguments[arguments.index("[") :])

    assert (program, option) == ("python", "-c")
    compile(code, "HEALTHCHECK", "exec")


def test_the_dev_container_makes_targets_that_exist() -> None:
    configuration: dict[str, Any] = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    make, *targets = configuration["postCreateCommand"].split()

    assert make == "make"
    assert all(re.search(rf"^{target}:", MAKEFILE, flags=re.MULTILINE) for target in targets)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
@pytest.mark.parametrize(
    ("version", "npm", "taken"),
    [
        ("20.19.0", True, False),
        ("22.1.0", True, False),
        ("20.18.9", True, True),
        ("18.20.8", True, True),
        ("20.19.0", False, True),
        (None, False, True),
    ],
)
def test_make_takes_node_js_from_pypi_where_the_systems_does_not_do(
    tmp_path: Path, version: str | None, npm: bool, taken: bool
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "make", "sh"):
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"needs {name}")
        (tools / name).symlink_to(found)
    pretend = tmp_path / "pretend.cjs"
    pretend.write_text(f'Object.defineProperty(process.versions, "node", {{ value: "{version}" }});')
    # Node.js itself, of another version by its own account.
    node = f'exec {shutil.which("node")} --require {pretend} "$@"' if version else None
    for name, script in (("node", node), ("npm", "exit 0" if npm else None)):
        if script is not None:
            (tools / name).write_text(f"#!{tools}/sh\n{script}\n")
            (tools / name).chmod(0o755)
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements").mkdir()
    shutil.copy(ROOT / "requirements/node.txt", tmp_path / "requirements")

    # It says what it would do; the parts that call make themselves are run all the same.
    command = ["make", "--dry-run", f"PYTHON={sys.executable}", "node"]
    shown = subprocess.run(
        command, cwd=tmp_path, env={"PATH": str(tools)}, check=True, capture_output=True, text=True
    )
    assert ("--requirement requirements/node.txt" in shown.stdout) == taken


def hooks() -> list[dict[str, Any]]:
    configuration = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repository["repo"] for repository in configuration["repos"]] == ["local"]
    return [hook for repository in configuration["repos"] for hook in repository["hooks"]]


@pytest.mark.parametrize("hook", hooks(), ids=lambda hook: hook["id"])
def test_a_hook_calls_a_tool_of_the_environment(hook: dict[str, Any]) -> None:
    assert hook["language"] == "system"
    assert {"id", "name", "entry"} <= hook.keys()
    tools = re.findall(r"\.venv/bin/([\w-]+)", hook["entry"])
    assert tools
    for tool in tools:
        assert tool in SCRIPTS or f"$(BIN)/{tool}" in MAKEFILE
    re.compile(hook.get("files", ""))


def test_the_editorconfig_agrees_with_the_formatter() -> None:
    text = (ROOT / ".editorconfig").read_text()
    parser = configparser.ConfigParser()
    parser.read_string("[top]\n" + text)
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())

    assert parser["top"]["root"] == "true"
    assert parser["*.{py,mako}"]["max_line_length"] == str(configuration["tool"]["ruff"]["line-length"])
    assert parser["Makefile"]["indent_style"] == "tab"
