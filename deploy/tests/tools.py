"""The tools that the tests of deploy/ run, and the places of files. `make test-deploy` names the tools in variables."""

import os
import pathlib
import shlex
import shutil
import subprocess

TOP = pathlib.Path(__file__).resolve().parent.parent.parent


def tool(name):
    """The command of a tool, as a list; says how to have it if it is not named."""
    command = os.environ.get(name)
    if not command:
        raise AssertionError(f"{name} is not set: run these tests by `make test-deploy`, which installs the tools")
    return shlex.split(command)


def run(command, **options):
    """Runs a command to its end and returns what came of it, with both outputs as text."""
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, **options)


def expect_success(test, command, **options):
    """Runs a command that must succeed, and returns its standard output."""
    result = run(command, **options)
    test.assertEqual(result.returncode, 0, f"{command}\n{result.stdout}\n{result.stderr}")
    return result.stdout


def committed(pattern):
    """Files of the repository that fit a pattern of git, whether they are committed or about to be."""
    listed = run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", pattern], cwd=TOP)
    return [TOP / line for line in listed.stdout.splitlines() if (TOP / line).is_file()]


def copy_of_sources(directory):
    """Copies what `deploy/compose/setup` and `deploy/deploy` work with into a directory, where they may write."""
    for name in ["docker-compose.yml", ".env.example"]:
        shutil.copy(TOP / name, directory / name)
    shutil.copytree(TOP / "envoy", directory / "envoy", ignore=shutil.ignore_patterns("generated"))
    unwanted = shutil.ignore_patterns("secrets", "__pycache__", "*.env", "config.env")
    shutil.copytree(TOP / "deploy", directory / "deploy", ignore=unwanted)
    return directory
