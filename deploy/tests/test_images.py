"""Dockerfile and docker-compose.yml: what the tools say of them, and what operators rely on."""

import ipaddress
import os
import pathlib
import re
import stat
import tempfile
import unittest

import yaml

from tools import TOP, copy_of_sources, expect_success, run, tool

PROFILES = ["--profile", "electric", "--profile", "observability"]
# What a template without a value would leave.
SERVICES = {"envoy", "tailwater", "postgres", "mirror", "electric", "prometheus", "grafana"}


class Image(unittest.TestCase):
    """The Dockerfile."""

    def setUp(self):
        self.text = (TOP / "Dockerfile").read_text()

    def test_hadolint_finds_nothing(self):
        expect_success(self, [*tool("HADOLINT"), TOP / "Dockerfile"])

    def test_every_program_runs_as_a_numbered_user_that_is_not_root(self):
        self.assertEqual(re.findall(r"^USER (.*)$", self.text, re.M), ["65532:65532"])
        begin = self.text.index("AS runtime")
        for stage in ("AS mirror", "AS server"):
            self.assertGreater(self.text.index(stage), begin)
            self.assertIn(f"FROM runtime {stage}", self.text)

    def test_the_server_is_what_is_built_unless_another_target_is_named(self):
        stages = re.findall(r"^FROM \S+ AS (\S+)$", self.text, re.M)
        self.assertEqual(stages, ["build", "runtime", "mirror", "server"])

    def test_it_listens_on_all_addresses_and_says_how_it_is_stopped_and_looked_after(self):
        for line in [
            "DS_SERVER__BIND_ADDRESS=[::]:4437",
            "STOPSIGNAL SIGTERM",
            'VOLUME ["/data"]',
            'CMD ["tailwater", "health"]',
        ]:
            self.assertIn(line, self.text)

    def test_what_is_built_is_what_is_here_and_not_what_the_cache_has(self):
        # Cargo goes by times: sources that were written before the cache was filled with another version were taken for those,
        # and the image had that version's programs.
        [build] = re.findall(r"^RUN .*?[^\\]$", self.text, re.M | re.S)
        self.assertLess(build.index("-exec touch {} +"), build.index("cargo build"))

    def test_the_build_fetches_nothing_but_its_bases_and_crates_and_bases_may_have_other_names(self):
        self.assertNotIn("syntax=", self.text, "the engine would fetch a program that reads this file")
        for base in ("BUILD_IMAGE=rust:1.95-bookworm", "RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot"):
            self.assertIn(f"\nARG {base}\n", self.text)

    def test_the_build_gets_the_manifest_of_every_member_of_the_workspace(self):
        members = re.search(r"^members = \[(.*)\]$", (TOP / "Cargo.toml").read_text(), re.M).group(1)
        lines = (TOP / ".dockerignore").read_text().splitlines()
        kept = [pathlib.PurePath(line[1:]) for line in lines if line.startswith("!")]
        for member in [*re.findall(r'"(.*?)"', members), "."]:
            manifest = pathlib.PurePath(member) / "Cargo.toml"
            self.assertTrue(any(path == manifest or path in manifest.parents for path in kept), manifest)
        self.assertIn("*", lines, "what is not named is left out")


class Compose(unittest.TestCase):
    """docker-compose.yml, after deploy/compose/setup in a copy."""

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.directory.cleanup)
        cls.top = copy_of_sources(pathlib.Path(cls.directory.name))
        cls.made = run([cls.top / "deploy/compose/setup"])
        shown = run([*tool("DOCKER_COMPOSE"), *PROFILES, "config"], cwd=cls.top)
        cls.shown = shown
        cls.config = yaml.safe_load(shown.stdout) if shown.returncode == 0 else None

    def setUp(self):
        self.assertEqual(self.made.returncode, 0, self.made.stderr)
        self.assertEqual(self.shown.returncode, 0, self.shown.stderr)
        self.services = self.config["services"]

    def test_docker_compose_takes_it_and_each_variable_has_a_value(self):
        self.assertEqual(set(self.services), SERVICES)
        self.assertNotIn("variable is not set", self.shown.stderr)
        # Without .env too: all has a default.
        (self.top / ".env").rename(self.top / "env.away")
        try:
            bare = run([*tool("DOCKER_COMPOSE"), *PROFILES, "config"], cwd=self.top)
        finally:
            (self.top / "env.away").rename(self.top / ".env")
        self.assertEqual(bare.stdout, self.shown.stdout, ".env.example has the same values as the defaults")

    def test_every_service_is_hardened_limited_and_looked_after(self):
        for name, service in self.services.items():
            with self.subTest(name):
                self.assertTrue(service["read_only"])
                self.assertEqual(service["cap_drop"], ["ALL"])
                self.assertIn("no-new-privileges:true", service["security_opt"])
                self.assertIn(service["stop_grace_period"], ("60s", "1m0s"))
                self.assertRegex(service["user"], r"^[1-9][0-9]*:[0-9]+$")
                for limit in ("mem_limit", "cpus", "pids_limit"):
                    self.assertTrue(service[limit], limit)
                self.assertIn("test", service["healthcheck"])
                self.assertNotIn(":latest", service["image"])
                self.assertIn(":", service["image"], "an image has a tag")

    def test_only_the_edge_is_open_to_other_machines(self):
        for name, service in self.services.items():
            for port in service.get("ports", []):
                port = port if isinstance(port, str) else f"{port.get('host_ip', '')}:{port['published']}:{port['target']}"
                if (name, port.split("/")[0].lstrip(":")) != ("envoy", "8443:8443"):
                    self.assertTrue(port.startswith("127.0.0.1:"), f"{name}: {port}")
        self.assertIn("127.0.0.1:9901:9901", str(self.services["envoy"]["ports"]).replace("/tcp", ""))
        # Whoever has one of these ports taken already could start nothing.
        chosen = {"TAILWATER_ADMIN_PORT": "19901", "ELECTRIC_PORT": "13000", "PROMETHEUS_PORT": "19090", "GRAFANA_PORT": "13001"}
        command = [*tool("DOCKER_COMPOSE"), *PROFILES, "config"]
        elsewhere = expect_success(self, command, cwd=self.top, env={**os.environ, **chosen})
        services = yaml.safe_load(elsewhere)["services"]
        for port in chosen.values():
            published = [ports for service in services.values() for ports in service.get("ports", []) if port in str(ports)]
            self.assertEqual(len(published), 1, port)
            self.assertIn("127.0.0.1", str(published), "for the host alone")
        self.assertTrue(self.config["networks"]["inner"]["internal"])
        self.assertEqual(set(self.services["postgres"]["networks"]), {"inner"})
        beside_the_edge = {name for name, service in self.services.items() if "edge" in service["networks"]}
        self.assertEqual(beside_the_edge, {"envoy", "tailwater"}, "who may reach the admin page of Envoy")

    def test_the_server_believes_the_edge_and_nobody_else(self):
        trusted = self.services["tailwater"]["environment"]["DS_PROXY__TRUSTED"]
        self.assertEqual(trusted, self.services["envoy"]["networks"]["edge"]["ipv4_address"])
        # The server came first and was given the address, so that Envoy could not start at all.
        [addresses] = self.config["networks"]["edge"]["ipam"]["config"]
        subnet, others = (ipaddress.ip_network(addresses[name]) for name in ("subnet", "ip_range"))
        self.assertTrue(others.subnet_of(subnet))
        self.assertIn(ipaddress.ip_address(trusted), subnet)
        self.assertNotIn(ipaddress.ip_address(trusted), others, "nobody else is given it")

    def test_the_server_has_time_to_stop(self):
        timeout = self.services["tailwater"]["environment"]["DS_SERVER__SHUTDOWN_TIMEOUT_SECS"]
        self.assertLess(int(timeout), 60)

    def test_postgresql_is_set_up_for_replication(self):
        command = self.services["postgres"]["command"]
        for setting in ("wal_level=logical", "max_wal_senders=10", "max_replication_slots=10"):
            self.assertIn(setting, command)
        self.assertTrue(any(part.startswith("max_slot_wal_keep_size=") for part in command))
        self.assertEqual(self.services["postgres"]["image"], "postgres:18")
        self.assertEqual(self.services["electric"]["image"], "electricsql/electric:1.4.2")

    def test_what_is_not_always_wanted_has_a_profile(self):
        profiles = {name: service["profiles"] for name, service in self.services.items() if "profiles" in service}
        observed = ["observability"]
        self.assertEqual(profiles, {"electric": ["electric"], "prometheus": observed, "grafana": observed})

    def test_no_secret_stands_in_a_file_that_is_committed(self):
        secrets = self.top / "deploy/compose/secrets"
        texts = [(TOP / name).read_text() for name in ("docker-compose.yml", ".env.example")]
        texts.append((self.top / ".env").read_text())
        for name in self.config["secrets"]:
            secret = (secrets / name).read_text().strip()
            self.assertGreaterEqual(len(secret), 64)
            for text in texts:
                self.assertNotIn(secret, text)
        ignored = run(["git", "check-ignore", ".env", "deploy/compose/secrets/postgres_password", "envoy/generated/x"], cwd=TOP)
        self.assertEqual(len(ignored.stdout.splitlines()), 3, ignored.stdout)

    def test_secrets_are_kept_from_others_and_stay_as_they_are(self):
        secrets = self.top / "deploy/compose/secrets"
        self.assertEqual(stat.S_IMODE(secrets.stat().st_mode), 0o700)
        before = {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()}
        expect_success(self, [self.top / "deploy/compose/setup"])
        after = {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()}
        self.assertEqual(before, after)
        password = (secrets / "mirror_password").read_text().strip()
        self.assertIn(f":{password}@", (secrets / "mirror_postgres_url").read_text())

    def test_containers_may_read_what_is_mounted_of_a_clone_that_others_may_not_read(self):
        # Servers are often set up so that what is made there is for nobody else (umask 027 or 077): Envoy could not read its
        # script then, nor PostgreSQL its roles.
        with tempfile.TemporaryDirectory() as directory:
            top = copy_of_sources(pathlib.Path(directory))
            for path in top.rglob("*"):
                path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o700)
            expect_success(self, [top / "deploy/compose/setup"])
            volumes = [volume for service in self.services.values() for volume in service.get("volumes", [])]
            sources = {volume.split(":")[0] if isinstance(volume, str) else volume["source"] for volume in volumes}
            mounted = {source for source in sources if source.startswith("/")}
            self.assertGreaterEqual(len(mounted), 6, mounted)
            for source in mounted:
                path = top / pathlib.Path(source).relative_to(self.top)
                for part in [path, *path.rglob("*")]:
                    needed = 0o005 if part.is_dir() else 0o004
                    self.assertEqual(part.stat().st_mode & needed, needed, part)
            self.assertTrue((top / "deploy/compose/postgres/10-roles.sh").stat().st_mode & 0o001, "it is run")

    def test_envoy_takes_the_configuration_that_setup_has_made(self):
        edge = self.top / "deploy/compose/secrets/edge"
        text = (edge / "envoy.yaml").read_text()
        source = (TOP / "envoy/envoy.yaml").read_text()
        changed = [new for old, new in zip(source.splitlines(), text.splitlines(), strict=True) if old != new]
        self.assertEqual(len(changed), 7, changed)
        # As mounted in the container.
        text = text.replace("/etc/tailwater-edge-script", str(self.top / "envoy")).replace("/etc/tailwater-edge", str(edge))
        configuration = self.top / "envoy-as-mounted.yaml"
        configuration.write_text(text)
        expect_success(self, [*tool("ENVOY"), "--mode", "validate", "-c", configuration])


if __name__ == "__main__":
    unittest.main()
