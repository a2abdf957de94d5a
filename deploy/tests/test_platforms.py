"""What the platforms get: manifests of Kubernetes, the stack of Swarm and its old versions, the files of Fly."""

import base64
import hashlib
import re
import shutil
import tomllib
import unittest

import yaml

import fakes
from rollout import SECRETS, Place, manifests
from tools import TOP, expect_success, run, tool

ENVIRONMENTS = ["staging", "production"]


def version_of(base, name):
    """The name that a secret of that file has on Swarm."""
    digest = hashlib.sha256((SECRETS[name] + "\n").encode()).hexdigest()[:12]
    return f"tailwater_{base}_{digest}"


@unittest.skipUnless(shutil.which(tool("KUBECTL")[0]), "there is no kubectl")
class Kubernetes(unittest.TestCase):
    """What kustomize builds of deploy/kubernetes, by itself and for a rollout."""

    def test_the_overlays_build_by_themselves(self):
        for environment in ENVIRONMENTS:
            expect_success(self, [*tool("KUBECTL"), "kustomize", TOP / f"deploy/kubernetes/overlays/{environment}"])

    def test_one_server_has_a_volume_probes_and_time_to_stop(self):
        for environment in ENVIRONMENTS:
            server = manifests(self, environment)["StatefulSet", "tailwater"]["spec"]
            self.assertEqual(server["replicas"], 1)
            self.assertEqual(server["podManagementPolicy"], "Parallel", "what never becomes ready can be gone back from")
            self.assertEqual(server["volumeClaimTemplates"][0]["spec"]["accessModes"], ["ReadWriteOncePod"])
            pod = server["template"]["spec"]
            self.assertEqual(pod["terminationGracePeriodSeconds"], 60)
            container = pod["containers"][0]
            self.assertEqual(container["image"], "registry.test/tailwater:v2")
            for probe, path in {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}.items():
                self.assertEqual(container[probe]["httpGet"]["path"], path)
            self.assertGreaterEqual(container["startupProbe"]["failureThreshold"], 60, "a recovery may take its time")

    def test_every_pod_is_hardened_and_limited(self):
        objects = manifests(self, "production")
        pods = [item for (kind, _), item in objects.items() if kind in ("StatefulSet", "Deployment")]
        self.assertEqual(len(pods), 3)
        for item in pods:
            pod = item["spec"]["template"]["spec"]
            self.assertTrue(pod["securityContext"]["runAsNonRoot"])
            self.assertEqual(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault")
            self.assertFalse(pod["automountServiceAccountToken"])
            for container in pod["containers"]:
                self.assertTrue(container["securityContext"]["readOnlyRootFilesystem"])
                self.assertFalse(container["securityContext"]["allowPrivilegeEscalation"])
                self.assertEqual(container["securityContext"]["capabilities"]["drop"], ["ALL"])
                self.assertIn("memory", container["resources"]["limits"])
                self.assertNotIn("latest", container["image"])

    def test_settings_are_those_of_the_place_and_configurations_that_are_named_are_there(self):
        objects = manifests(self, "production")
        names = {name for kind, name in objects if kind == "ConfigMap"}
        text = yaml.safe_dump_all(objects.values())
        for prefix in ("edge", "mirror-settings", "tailwater-settings"):
            [name] = [name for name in names if re.fullmatch(rf"{prefix}-[a-z0-9]{{10}}", name)]
            self.assertGreaterEqual(text.count(name), 2, f"{name} is used")
        [settings] = [item["data"] for (kind, name), item in objects.items() if name.startswith("tailwater-settings")]
        self.assertEqual(settings["DS_PROXY__TRUSTED"], "10.0.0.0/8")
        self.assertEqual(settings["DS_LIMITS__MAX_MEMORY_BYTES"], "1GiB")
        [edge] = [item["data"] for (kind, name), item in objects.items() if name.startswith("edge-") and kind == "ConfigMap"]
        self.assertIn("jwks_port: &jwks_port 8444", edge["envoy.yaml"])
        self.assertEqual(set(edge), {"envoy.yaml", "authorize.lua", "certificate.production.yaml"})
        self.assertEqual({item["metadata"]["namespace"] for item in objects.values()}, {"tailwater"})

    def test_all_that_is_not_named_is_closed(self):
        objects = manifests(self, "production")
        policies = {name: item["spec"] for (kind, name), item in objects.items() if kind == "NetworkPolicy"}
        self.assertEqual(set(policies), {"closed", "names", "edge", "tailwater", "mirror"})
        self.assertEqual(policies["closed"], {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
        for name, spec in policies.items():
            for rule in spec.get("ingress", []):
                self.assertTrue(name == "edge" or rule["from"], f"only the edge is open to everybody, and not {name}")

    def test_budgets_and_monitors_select_what_there_is(self):
        for environment in ENVIRONMENTS:
            objects = manifests(self, environment)
            pods = [item["spec"] for (kind, _), item in objects.items() if kind in ("StatefulSet", "Deployment")]
            labels = [pod["template"]["metadata"]["labels"] for pod in pods]
            budgets = [item["spec"] for (kind, _), item in objects.items() if kind == "PodDisruptionBudget"]
            self.assertEqual(len(budgets), 3)
            for budget in budgets:
                wanted = budget["selector"]["matchLabels"].items()
                [fitting] = [pod for pod, own in zip(pods, labels) if wanted <= own.items()]
                blocks = budget.get("minAvailable", 0) >= fitting["replicas"]
                is_server = fitting["serviceName"] == "tailwater" if "serviceName" in fitting else False
                self.assertEqual(blocks, is_server, "only the server holds a drain up until somebody decides")
            services = [item for (kind, _), item in objects.items() if kind == "Service"]
            monitors = [item["spec"] for (kind, _), item in objects.items() if kind == "ServiceMonitor"]
            for monitor in monitors:
                [expression] = monitor["selector"]["matchExpressions"]
                port = monitor["endpoints"][0]["port"]
                chosen = [
                    service
                    for service in services
                    if service["metadata"].get("labels", {}).get(expression["key"]) in expression["values"]
                    and port in [own["name"] for own in service["spec"]["ports"]]
                ]
                self.assertEqual(len(chosen), 1, port)
            jobs = {monitor["endpoints"][0]["relabelings"][0]["replacement"] for monitor in monitors}
            self.assertEqual(jobs, {"tailwater", "tailwater-sync"}, "the jobs that the rules know")


class Commands(unittest.TestCase):
    """What commands find that are run beside the server, in its container."""

    def check(self, environment):
        self.assertEqual(environment["TAILWATER_URL"], "https://tailwater:4437/v1/stream", "the path belongs to it")
        self.assertIn(environment["TAILWATER_CA_FILE"], ("/run/secrets/server_ca", "/run/tailwater/tls/ca.crt", "/run/tailwater/ca.crt"))
        # It was set on Swarm, and webhooks trusted the server's own authority and no other.
        self.assertNotIn("SSL_CERT_FILE", environment)

    def test_swarm_has_their_url_and_authority(self):
        text = (TOP / "deploy/swarm/stack.yml").read_text().replace("${SERVER_NAME}", "tailwater")
        server = yaml.safe_load(text)["services"]["tailwater"]
        self.check(server["environment"])
        self.assertIn("server_ca", [secret["source"] for secret in server["secrets"]])

    @unittest.skipUnless(shutil.which(tool("KUBECTL")[0]), "there is no kubectl")
    def test_kubernetes_has_them_and_the_name_leads_to_the_pod_itself(self):
        objects = manifests(self, "production")
        [settings] = [item["data"] for (kind, name), item in objects.items() if name.startswith("tailwater-settings")]
        self.check(settings)
        pod = objects["StatefulSet", "tailwater"]["spec"]["template"]["spec"]
        self.assertEqual(pod["hostAliases"], [{"ip": "127.0.0.1", "hostnames": ["tailwater"]}])

    def test_fly_has_them(self):
        for environment in ENVIRONMENTS:
            config = tomllib.loads((TOP / f"deploy/fly/{environment}/fly.toml").read_text())
            place = Place(self)
            self.assertEqual(place.deploy("fly", environment, SERVER_NAME="tailwater").returncode, 0)
            [deployed] = [command for command in place.commands() if "--config fly.toml" in command]
            given = dict(pair.split("=", 1) for pair in re.findall(r"--env (\S+)", deployed))
            self.check({**config["env"], **given})
            self.assertIn(config["env"]["TAILWATER_CA_FILE"], [file["guest_path"] for file in config["files"]])


class Edge(unittest.TestCase):
    """Envoy's configuration, as it is filled in for a rollout."""

    def test_envoy_takes_what_is_filled_in(self):
        place = Place(self)
        filled = expect_success(
            self,
            [TOP / "deploy/fill-edge", TOP / "envoy/envoy.production.yaml", "issuer=https://issuer.test/", "jwks_port=8444"],
        )
        self.assertIn("    issuer: &issuer https://issuer.test/\n", filled)
        authority = place.top / "files/authority.pem"
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
            + ["-days", "2", "-subj", "/CN=x", "-keyout", "/dev/null", "-out", authority])
        named = ["server_authorities", "jwks_authorities"]
        pairs = [f"{name}={authority}" for name in named] + [f"authorize={TOP / 'envoy/authorize.lua'}"]
        certificates = place.top / "files/certificates.yaml"
        certificates.write_text((TOP / "envoy/certificate.production.yaml").read_text())
        whole = place.top / "files/envoy.yaml"
        command = [TOP / "deploy/fill-edge", TOP / "envoy/envoy.production.yaml", f"certificate={certificates}", *pairs]
        whole.write_text(expect_success(self, command))
        expect_success(self, [*tool("ENVOY"), "--mode", "validate", "-c", whole])

    def test_a_name_that_is_not_there_is_refused(self):
        said = run([TOP / "deploy/fill-edge", TOP / "envoy/envoy.yaml", "isuer=x"])
        self.assertEqual(said.returncode, 2)
        self.assertIn("isuer stands in node.metadata of", said.stderr)


class Swarm(unittest.TestCase):
    """The stack, and the versions of its secrets and configurations."""

    def test_docker_compose_takes_the_stack(self):
        names = set(re.findall(r"\$\{(\w+)\}", (TOP / "deploy/swarm/stack.yml").read_text()))
        values = {name: "x" for name in names} | {"MIRROR_REPLICAS": "2", "SWARM_EDGE_SUBNET": "10.91.0.0/24"}
        command = [*tool("DOCKER_COMPOSE"), "-f", TOP / "deploy/swarm/stack.yml", "config"]
        config = yaml.safe_load(expect_success(self, command, env={"PATH": "/usr/bin:/bin", "HOME": "/", **values}))
        for network in config["networks"].values():
            self.assertEqual(network["driver_opts"], {"encrypted": "true"})
        placement = config["services"]["tailwater"]["deploy"]["placement"]["constraints"]
        self.assertEqual(placement, ["node.labels.tailwater.streams == x"], "the volume is on one node")
        self.assertEqual(config["services"]["tailwater"]["deploy"]["replicas"], 1)
        for service in config["services"].values():
            self.assertTrue(service["read_only"])
            self.assertIn(service["stop_grace_period"], ("60s", "1m0s"))
            self.assertRegex(service["user"], "^[1-9]")
            self.assertTrue(service["deploy"]["resources"]["limits"])
        for secret in config["secrets"].values():
            self.assertTrue(secret["external"])

    def test_every_variable_of_the_stack_is_given_when_it_is_deployed(self):
        place = Place(self)
        (place.tools / "docker").write_text(
            f'#!/bin/sh\ncase "$*" in *"stack deploy"*) env >{place.tools}/environment ;; *"service inspect"*) ;; *inspect*) exit 1 ;;'
            ' *"stack services --format"*) echo tailwater_edge 1/1 ;; esac\n'
        )
        result = place.deploy("swarm")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        given = dict(line.split("=", 1) for line in (place.tools / "environment").read_text().splitlines() if "=" in line)
        for name in set(re.findall(r"\$\{(\w+)\}", (TOP / "deploy/swarm/stack.yml").read_text())):
            self.assertTrue(given.get(name), name)
        self.assertEqual(given["SERVER_KEY_VERSION"], version_of("server_key", "server.key"))

    def test_what_is_there_already_is_not_made_again(self):
        created = {}
        for is_there in (False, True):
            place = Place(self, [] if is_there else [("(secret|config) inspect tailwater", "", 1)])
            self.assertEqual(place.deploy("swarm").returncode, 0)
            created[is_there] = [command for command in place.commands() if " create " in command]
        self.assertEqual(created[True], [])
        self.assertEqual(len(created[False]), 9)

    def prune(self, services, **variables):
        """What is removed of five old versions of one secret, the oldest first, while services use some."""
        names = [f"tailwater_server_key_{digit * 12}" for digit in "12345"]
        listed = "".join(f"2026-11-0{day} 10:00:00 +0000 UTC {name}\n" for day, name in enumerate(names, start=1))
        other = "2026-10-01 10:00:00 +0000 UTC tailwater_server_key_backup\n"
        rules = [
            ("secret ls --quiet --filter name=tailwater_server_key_", "a\nb\n", 0),
            (r"secret inspect --format \{\{.CreatedAt", listed + other, 0),
            ("service ls --quiet", "s\n", 0),
            ("service inspect .*ContainerSpec", *services),
        ]
        place = Place(self, rules)
        result = place.deploy("swarm", **variables)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        removed = [command.split()[-1] for command in place.commands() if "secret rm" in command]
        return [names.index(name) + 1 for name in removed]

    def test_old_versions_are_removed_but_for_the_newest_and_those_in_use(self):
        self.assertEqual(self.prune(("", 0)), [2, 1])
        self.assertEqual(self.prune(("tailwater_server_key_222222222222\n", 0)), [1])
        self.assertEqual(self.prune(("", 0), SECRET_KEEP_VERSIONS="1"), [4, 3, 2, 1])
        self.assertEqual(self.prune(("", 0), SECRET_KEEP_VERSIONS="9"), [])

    def test_nothing_is_removed_if_it_cannot_be_found_out_what_is_in_use(self):
        self.assertEqual(self.prune(("", 1), SECRET_KEEP_VERSIONS="1"), [])


class Fly(unittest.TestCase):
    """The files of Fly."""

    def test_the_server_is_one_machine_with_a_volume_that_is_looked_after_and_has_time_to_stop(self):
        for environment in ENVIRONMENTS:
            config = tomllib.loads((TOP / f"deploy/fly/{environment}/fly.toml").read_text())
            self.assertTrue(config["primary_region"])
            self.assertEqual((config["kill_signal"], config["kill_timeout"]), ("SIGTERM", "60s"))
            self.assertLess(int(config["env"]["DS_SERVER__SHUTDOWN_TIMEOUT_SECS"]), 60)
            self.assertTrue(config["env"]["DS_STORAGE__DATA_DIR"].startswith(config["mounts"]["destination"] + "/"))
            self.assertEqual(config["checks"]["ready"]["path"], "/readyz")
            self.assertEqual(config["metrics"]["path"], "/metrics")
            self.assertTrue(config["experimental"]["auto_rollback"])
            self.assertNotIn("services", config, "it has no public address")
            regions = {
                tomllib.loads((TOP / f"deploy/fly/{environment}/{name}").read_text())["primary_region"]
                for name in ("fly.toml", "edge.toml", "mirror.toml")
            }
            self.assertEqual(len(regions), 1, "all of them are where the streams are")

    def test_secrets_go_by_standard_input_in_base64_and_each_file_has_its_own(self):
        for environment in ENVIRONMENTS:
            place = Place(self)
            self.assertEqual(place.deploy("fly", environment).returncode, 0)
            lines = [line for text in fakes.inputs(place.tools, "secrets import") for line in text.splitlines()]
            staged = dict(line.split("=", 1) for line in lines)
            wanted = set()
            for name in ("fly.toml", "edge.toml", "mirror.toml"):
                config = tomllib.loads((TOP / f"deploy/fly/{environment}/{name}").read_text())
                wanted |= {file["secret_name"] for file in config["files"] if "secret_name" in file}
            self.assertEqual(set(staged), wanted)
            self.assertEqual(base64.b64decode(staged["SERVER_KEY"]).decode().strip(), SECRETS["server.key"])

    def test_only_one_machine_is_made(self):
        place = Place(self)
        place.deploy("fly")
        deployed = [command for command in place.commands() if command.startswith("fly deploy")]
        self.assertEqual(len(deployed), 3)
        for command in deployed:
            self.assertIn("--ha=false", command)


class MemoryOfEnvoy(unittest.TestCase):
    """Envoy guards its own memory, which is of use below what its container may have, and nowhere else."""

    def test_envoy_refuses_requests_before_the_kernel_kills_it(self):
        # It was told to refuse them at 2 GiB, and had 512 MB to 2 GiB.
        text = (TOP / "envoy/envoy.production.yaml").read_text()
        heap = int(re.search(r"^    heap_bytes: &heap_bytes (\d+)$", text, re.M).group(1))
        self.assertIn("max_heap_size_bytes: *heap_bytes\n", text)
        limits = [yaml.safe_load((TOP / "deploy/swarm/stack.yml").read_text())["services"]["edge"]["deploy"]["resources"]]
        for environment in ENVIRONMENTS if shutil.which(tool("KUBECTL")[0]) else []:
            built = expect_success(self, [*tool("KUBECTL"), "kustomize", TOP / f"deploy/kubernetes/overlays/{environment}"])
            for item in yaml.safe_load_all(built):
                if (item["kind"], item["metadata"]["name"]) == ("Deployment", "edge"):
                    limits.append(item["spec"]["template"]["spec"]["containers"][0]["resources"])
        sizes = [limit["limits"]["memory"] for limit in limits]
        for environment in ENVIRONMENTS:
            [machine] = tomllib.loads((TOP / f"deploy/fly/{environment}/edge.toml").read_text())["vm"]
            sizes.append(machine["memory"].removesuffix("b"))
        self.assertGreaterEqual(len(sizes), 3, sizes)
        for size in sizes:
            self.assertRegex(size, "^[0-9]+[GMgm]i?$")
            scale = {"g": 1 << 30, "m": 1 << 20}[size.lower().rstrip("i")[-1]]
            self.assertGreaterEqual(int(size.lower().rstrip("i")[:-1]) * scale * 0.75, heap, size)


if __name__ == "__main__":
    unittest.main()
