"""Programs that stand where `docker`, `kubectl`, `fly` and `curl` would be on PATH, and keep what they are asked.

They are told by rules what to answer: each is a pattern of the whole command, what is printed, and the exit code. The first
that fits counts; without one nothing is printed and the code is 0. `kubectl kustomize` needs no cluster, so the real one
builds, if there is one, and its manifests are kept.
"""

import pathlib
import stat

NAMES = ["docker", "kubectl", "fly", "curl"]
PROGRAM = pathlib.Path(__file__).with_name("fake.sh")


def install(directory, rules=()):
    """Puts the programs into a directory, with rules as (pattern, output, code)."""
    directory.mkdir(exist_ok=True)
    (directory / "inputs").mkdir()
    lines = []
    for number, (pattern, output, code) in enumerate(rules):
        (directory / f"output.{number}").write_text(output)
        lines.append(f"{code} {pattern}\n")
    (directory / "rules").write_text("".join(lines))
    for name in NAMES:
        path = directory / name
        path.write_text(f'#!/bin/sh\nexec bash "{PROGRAM}" "{directory}" {name} "$@"\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)


def commands(directory):
    """What was asked, in its order."""
    asked = directory / "asked"
    return asked.read_text().splitlines() if asked.exists() else []


def inputs(directory, part):
    """What commands with that part were given as input."""
    given = []
    for number, command in enumerate(commands(directory), start=1):
        path = directory / "inputs" / str(number)
        if part in command and path.exists():
            given.append(path.read_text().strip())
    return given
