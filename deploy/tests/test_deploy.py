"""deploy/deploy: what it checks, what it does in which order, and how it goes back."""

import re
import unittest

import fakes
from rollout import SECRETS, Place
from tools import TOP, expect_success, run, tool

TARGETS = ["fly", "kubernetes", "swarm"]
# What a command that begins so changes nowhere.
HARMLESS = re.compile(r"^kubectl kustomize |^fly releases |rollout history |(secret|config|service) inspect |stack (services|ps) ")
UNWELL = ("^curl ", "", 22)
HAD_BEFORE = [
    ("^fly releases --app (\\S+)", '[{"Version":7,"ImageRef":"registry.test/tailwater:v1"},{"ImageRef":"x:v0"}]', 0),
    ("rollout history", "REVISION  CHANGE-CAUSE\n3         <none>\n12        <none>\n", 0),
    ("stack services", "abc\n", 0),
]


class Scripts(unittest.TestCase):
    """All shell scripts of the project."""

    def test_shellcheck_finds_nothing(self):
        listed = run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=TOP).stdout.splitlines()
        scripts = []
        for path in [TOP / name for name in listed]:
            if path.is_file() and re.match(rb"#!/bin/(ba)?sh\n", path.read_bytes()[:16]):
                scripts.append(path)
        self.assertIn(TOP / "deploy/deploy", scripts)
        self.assertIn(TOP / "envoy/setup", scripts)
        expect_success(self, [*tool("SHELLCHECK"), "--external-sources", "--check-sourced", *scripts])


class Settings(unittest.TestCase):
    """What is refused, before anything is done."""

    def refuse(self, target="kubernetes", **variables):
        place = Place(self)
        result = place.deploy(target, **variables)
        self.assertEqual(result.returncode, 2, result.stdout + result.stderr)
        self.assertEqual([command for command in place.commands() if not HARMLESS.search(command)], [])
        return result.stderr

    def test_the_tag_is_never_latest_and_has_the_form_of_one(self):
        for tag in ("latest", "Latest", "LATEST"):
            self.assertIn("DEPLOY_TAG is latest", self.refuse(DEPLOY_TAG=tag))
        self.assertIn("DEPLOY_TAG is 'a b'", self.refuse(DEPLOY_TAG="a b"))
        self.assertIn("leave the tag out", self.refuse(DEPLOY_IMAGE="registry.test/tailwater:v1"))
        self.assertIn("DEPLOY_TAG is missing, and this is no clone of git", self.refuse(DEPLOY_TAG=None))

    def test_related_settings_are_given_together_or_not_at_all(self):
        for left_out in ("REGISTRY_HOST", "REGISTRY_USER", "REGISTRY_PASSWORD_FILE"):
            said = self.refuse(**{left_out: ""})
            self.assertRegex(said, rf"REGISTRY_\w+ .*given, and {left_out} not; to log in to a registry give all of them, or none")
        for left_out in ("MIRROR_STREAMS", "MIRROR_POSTGRES_URL_FILE"):
            self.assertIn(f"given, and {left_out} not; for the mirror", self.refuse(**{left_out: ""}))

    def test_all_mistakes_are_told_at_once_with_what_to_do(self):
        said = self.refuse(
            EDGE_ISSUER="",
            SERVER_KEY_FILE="/no/such/key",
            HEALTHCHECK_ATTEMPTS="0",
            SECRET_KEEP_VERSIONS="many",
            DRY_RUN="yes",
            DEPLOY_IMAGE="registry.example.com/tailwater",
        )
        self.assertIn("the settings have 6 mistakes", said)
        for part in [
            "EDGE_ISSUER is missing; give it in deploy/settings/staging.env",
            "SERVER_KEY_FILE names /no/such/key, which is not there, or empty",
            "HEALTHCHECK_ATTEMPTS is '0'; give a whole number, 1 or more",
            "SECRET_KEEP_VERSIONS is 'many'",
            "DRY_RUN is 'yes'; give 1, or leave it out",
            "DEPLOY_IMAGE is still 'registry.example.com/tailwater', as in the example",
        ]:
            self.assertIn(part, said)

    def test_what_a_target_needs_is_asked_for_that_target_alone(self):
        self.assertIn("FLY_API_TOKEN_FILE is missing", self.refuse("fly", FLY_API_TOKEN_FILE=""))
        self.assertIn("SWARM_NODE is missing", self.refuse("swarm", SWARM_NODE=""))
        self.assertIn("KUBE_CONTEXT is missing", self.refuse("kubernetes", KUBE_CONTEXT=""))
        place = Place(self)
        result = place.deploy("kubernetes", FLY_APP="", SWARM_NODE="", FLY_API_TOKEN_FILE="")
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_a_target_or_environment_that_there_is_not_is_named(self):
        self.assertIn("the target is 'heroku'; give fly, kubernetes or swarm", self.refuse("heroku"))
        place = Place(self)
        self.assertIn("the environment is 'prod'", place.deploy("fly", "prod").stderr)

    def test_a_missing_file_is_copied_from_its_example_and_nothing_in_it_is_run(self):
        place = Place(self)
        path = place.top / "deploy/settings/staging.env"
        dry = place.deploy("swarm", DRY_RUN="1")
        self.assertIn("would copy deploy/settings/staging.env.example", dry.stdout)
        self.assertFalse(path.exists(), "a dry run changes nothing")
        result = place.deploy("swarm", EDGE_ISSUER=None)
        self.assertEqual(result.returncode, 2, "it is not filled in")
        self.assertIn("made deploy/settings/staging.env out of deploy/settings/staging.env.example; fill it in", result.stdout)
        self.assertIn("EDGE_ISSUER is still 'https://issuer.example.com/'", result.stderr)
        self.assertEqual(path.read_text(), path.with_name("staging.env.example").read_text())
        path.write_text(f"SERVER_CORS_ORIGINS=$(touch {place.top}/was-run)\nPATH=/tmp\nnonsense\n{path.read_text()}")
        result = place.deploy("swarm")
        self.assertFalse((place.top / "was-run").exists())
        self.assertIn("'PATH' is no setting", result.stderr)
        self.assertIn("'nonsense' is no setting", result.stderr)

    def test_a_variable_wins_over_the_file(self):
        place = Place(self)
        example = (place.top / "deploy/settings/staging.env.example").read_text()
        (place.top / "deploy/settings/staging.env").write_text(example.replace("KUBE_NAMESPACE=tailwater", "KUBE_NAMESPACE=of-the-file"))
        self.assertEqual(place.deploy("kubernetes").returncode, 0)
        self.assertTrue(any("--namespace of-the-file" in command for command in place.commands()))
        self.assertEqual(place.deploy("kubernetes", KUBE_NAMESPACE="of-a-variable").returncode, 0)
        self.assertTrue(any("--namespace of-a-variable" in command for command in place.commands()))

    def test_the_examples_have_every_setting(self):
        text = (TOP / "deploy/parts/settings.sh").read_text()
        known = set(re.search(r'SETTINGS="(.*?)"', text, re.S).group(1).split())
        document = (TOP / "docs/deployment.md").read_text()
        for environment in ("staging", "production"):
            lines = (TOP / f"deploy/settings/{environment}.env.example").read_text().splitlines()
            self.assertEqual({line.split("=")[0] for line in lines if line and not line.startswith("#")}, known)
        for name in known | {"DRY_RUN", "DEPLOY_TAG", "SKIP_BUILD", "SKIP_HEALTHCHECK"}:
            self.assertIn(f"`{name}`", document)


class Rollouts(unittest.TestCase):
    """What is done, by target."""

    def test_a_dry_run_prints_the_plan_and_changes_nothing(self):
        for target in TARGETS:
            for environment in ("staging", "production"):
                with self.subTest(f"{target} {environment}"):
                    place = Place(self)
                    result = place.deploy(target, environment, DRY_RUN="1")
                    self.assertEqual(result.returncode, 0, result.stderr)
                    self.assertEqual([command for command in place.commands() if not HARMLESS.search(command)], [])
                    for part in ["docker login", "docker buildx build", "would ask up to 3 times", "docker logout", "v2"]:
                        self.assertIn(part, result.stdout)
                    self.assertIn("nothing was changed: without DRY_RUN, registry.test/tailwater:v2 would run", result.stdout)
                    self.assertNotIn("done:", result.stdout, "it said that it runs")

    def test_a_version_is_built_rolled_out_and_looked_at_in_this_order(self):
        rollouts = {"fly": "fly deploy", "kubernetes": "apply --kustomize", "swarm": "stack deploy"}
        for target, rollout in rollouts.items():
            with self.subTest(target):
                place = Place(self)
                result = place.deploy(target)
                self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
                commands = place.commands()
                order = ["docker login", "--target server", "--target mirror", rollout, "curl ", "docker logout registry.test"]
                places = [next(at for at, command in enumerate(commands) if part in command) for part in order]
                self.assertEqual(places, sorted(places), commands)
                self.assertTrue(any("registry.test/tailwater:v2" in command for command in commands))
                self.assertTrue(any("registry.test/tailwater-sync:v2" in command for command in commands))

    def test_no_secret_is_in_an_argument_or_in_what_is_printed(self):
        for target in TARGETS:
            for rules in ([], [*HAD_BEFORE, UNWELL]):
                place = Place(self, rules)
                result = place.deploy(target)
                for name, secret in SECRETS.items():
                    secret = "marker-of-postgres" if name == "postgres" else secret
                    for text in [*place.commands(), result.stdout, result.stderr]:
                        self.assertNotIn(secret, text, f"{target}: {name}")
        self.assertEqual(fakes.inputs(place.tools, "docker login"), [SECRETS["registry"]])

    def test_what_need_not_be_built_or_mirrored_or_looked_at_is_left_out(self):
        for target in TARGETS:
            place = Place(self, [UNWELL])
            result = place.deploy(
                target,
                SKIP_BUILD="1",
                SKIP_HEALTHCHECK="1",
                HEALTHCHECK_URL="",
                MIRROR_STREAMS="",
                MIRROR_POSTGRES_URL_FILE="",
                REGISTRY_HOST="",
                REGISTRY_USER="",
                REGISTRY_PASSWORD_FILE="",
            )
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
            for command in place.commands():
                self.assertNotRegex(command, r"buildx|docker login|docker logout|^curl|mirror\.toml|deployment/mirror")

    def test_it_waits_for_health_and_asks_again(self):
        place = Place(self)
        (place.tools / "curl").write_text(
            f'#!/bin/sh\necho x >>{place.tools}/asked-of-curl\n[ "$(wc -l <{place.tools}/asked-of-curl)" -ge 3 ]\n'
        )
        result = place.deploy("kubernetes")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual((place.tools / "asked-of-curl").read_text(), "x\n" * 3)
        self.assertNotIn("rollout undo", "\n".join(place.commands()))

    def test_fly_may_be_called_flyctl_and_must_be_there(self):
        # Fly's action for GitHub installs `flyctl` alone, so that the workflow of a release found no `fly`.
        place = Place(self)
        (place.tools / "fly").rename(place.tools / "flyctl")
        bare = f"{place.tools}:/usr/bin:/bin"
        result = place.deploy("fly", PATH=bare)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertTrue(any("deploy --app tailwater-staging " in command for command in place.commands()))
        (place.tools / "flyctl").unlink()
        result = place.deploy("fly", PATH=bare)
        self.assertEqual(result.returncode, 2, result.stdout)
        self.assertIn("there is neither fly nor flyctl on PATH; install flyctl", result.stderr)


class Failures(unittest.TestCase):
    """Going back, and leaving nothing behind."""

    def roll_back(self, target, rules, **variables):
        place = Place(self, rules)
        result = place.deploy(target, **variables)
        self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
        self.assertIn("docker logout registry.test", place.commands()[-1], "also after a failure")
        self.assertEqual(list((place.top / "deploy").glob(".generated.*")), [])
        return place.commands(), result.stderr

    def test_kubernetes_goes_back_to_the_revisions_of_before(self):
        for rules in ([*HAD_BEFORE, UNWELL], [*HAD_BEFORE, ("rollout status statefulset/tailwater", "", 1)]):
            commands, said = self.roll_back("kubernetes", rules)
            undone = [command for command in commands if "rollout undo" in command]
            self.assertEqual(
                [command.split("undo ")[1] for command in undone],
                [f"{workload} --to-revision=12" for workload in ("statefulset/tailwater", "deployment/edge", "deployment/mirror")],
            )
            self.assertIn("going back to what ran before", said)

    def test_swarm_rolls_its_services_back_and_prunes_nothing(self):
        commands, _ = self.roll_back("swarm", [*HAD_BEFORE, UNWELL])
        undone = [command.split()[-1] for command in commands if "service rollback" in command]
        self.assertEqual(undone, ["tailwater_tailwater", "tailwater_edge", "tailwater_mirror"])
        self.assertNotIn(" rm ", "\n".join(commands))

    def test_what_swarm_has_taken_back_by_itself_is_a_failure_and_is_not_taken_back_twice(self):
        # `docker stack deploy --detach=false` ends with 0 then: the script said that a version runs which did not, left the
        # mirror at it, and where it did go back, asked for what Swarm refuses ("does not have a previous spec").
        rules = [
            *HAD_BEFORE,
            ("inspect .*UpdateStatus.* tailwater_tailwater", "rollback_completed\n", 0),
            ("inspect .*if .PreviousSpec.* tailwater_tailwater", "no\n", 0),
            ("inspect .*if .PreviousSpec", "yes\n", 0),
            ("service rollback .*tailwater_tailwater", "", 1),
        ]
        commands, said = self.roll_back("swarm", rules)
        self.assertIn("tailwater_tailwater, or has taken it back: rollback_completed", said)
        self.assertIn("what ran before does", said)
        undone = [command.split()[-1] for command in commands if "service rollback" in command]
        self.assertEqual(undone, ["tailwater_edge", "tailwater_mirror"])
        self.assertFalse(any(command.startswith("curl ") for command in commands), "the old version would be well")

    def test_a_first_version_on_swarm_whose_tasks_fail_is_waited_for_until_they_have_failed_again_and_again(self):
        # It was waited for until somebody broke it off: `docker stack deploy --detach=false` never ends then.
        failed = "tailwater_tailwater.1|Failed 3 seconds ago|task: non-zero exit (2)\n"
        services = ("stack services --format", "tailwater_tailwater 0/1\ntailwater_edge 1/1\n", 0)
        commands, said = self.roll_back("swarm", [services, ("stack ps", failed * 3, 0)])
        self.assertIn("a task has failed 3 times: tailwater_tailwater.1: Failed 3 seconds ago: task: non-zero exit (2)", said)
        self.assertIn("service logs --tail 20 tailwater_tailwater", said)
        self.assertIn("nothing ran before", said)
        self.assertTrue(any("stack deploy" in command and "--detach=true" in command for command in commands), commands)
        self.assertFalse(any(command.startswith("curl ") for command in commands))

    def test_a_first_version_on_swarm_that_neither_runs_nor_fails_is_not_waited_for_for_ever(self):
        # Two failures of a task, or one of each of several, are a start that is slow.
        failed = "".join(f"tailwater_mirror.{slot}|Failed 3 seconds ago|it waits\n" * 2 for slot in (1, 2))
        services = ("stack services --format", "tailwater_tailwater 0/1\ntailwater_edge 1/1\n", 0)
        commands, said = self.roll_back("swarm", [services, ("stack ps", failed, 0)])
        self.assertIn("do not have all their tasks after 180 looks: tailwater_tailwater 0/1", said)
        self.assertIn("stack ps --no-trunc tailwater", said)
        self.assertEqual(sum("stack ps" in command for command in commands), 180)

    def test_fly_deploys_the_images_of_before(self):
        commands, _ = self.roll_back("fly", [*HAD_BEFORE, UNWELL])
        deployed = [command for command in commands if command.startswith("fly deploy")]
        again = [command for command in deployed if "--image registry.test/tailwater:v1" in command]
        self.assertEqual([command.split()[3] for command in again], ["tailwater-staging", "tailwater-staging-mirror"])
        self.assertEqual(deployed[-2:], again)

    def test_a_rollout_that_fails_is_gone_back_from_without_a_look_at_its_health(self):
        for target, rollout in {"fly": "fly deploy .*:v2", "kubernetes": "apply --kustomize", "swarm": "stack deploy"}.items():
            commands, said = self.roll_back(target, [*HAD_BEFORE, (rollout, "", 1)])
            self.assertIn("the rollout failed", said)
            self.assertFalse(any(command.startswith("curl") for command in commands))

    def test_a_first_version_that_is_not_well_cannot_be_gone_back_from_and_says_so(self):
        for target in TARGETS:
            commands, said = self.roll_back(target, [UNWELL])
            self.assertIn("nothing ran before", said)
            self.assertIn("look at it by hand", said)
            self.assertNotRegex("\n".join(commands), "rollout undo|service rollback")

    def test_going_back_that_fails_is_told(self):
        _, said = self.roll_back("kubernetes", [*HAD_BEFORE, UNWELL, ("rollout undo", "", 1)])
        self.assertIn("going back failed too", said)

    def test_a_build_that_fails_ends_it_before_anything_is_changed(self):
        for target in TARGETS:
            commands, _ = self.roll_back(target, [("buildx build", "", 1)])
            self.assertEqual(len([command for command in commands if not HARMLESS.search(command)]), 3, commands)


if __name__ == "__main__":
    unittest.main()
