"""Where metrics and health are asked for: each platform's settings, checks, scrape configurations and policies name one port."""

import re
import shutil
import tomllib
import unittest

import yaml

from rollout import manifests
from tools import TOP, tool

ENVIRONMENTS = ["staging", "production"]
STREAMS_PORT = 4437


def port_of(address):
    """The port of an address such as [::]:4439."""
    return int(address.rsplit(":", 1)[1])


def ports_in(text):
    """All ports of URLs on the machine itself that stand in a text."""
    return {int(port) for port in re.findall(r"http://127\.0\.0\.1:(\d+)", text)}


class Ports(unittest.TestCase):
    """Compose, Swarm and Fly."""

    def check_services(self, services):
        """The settings of both programs, and the ports that they are asked at for their health. Returns these."""
        server, mirror = services["tailwater"], services["mirror"]
        metrics = port_of(server["environment"]["DS_METRICS__ADDRESS"])
        self.assertNotEqual(metrics, port_of(server["environment"]["DS_SERVER__BIND_ADDRESS"]))
        of_mirror = port_of(mirror["environment"]["DS_SYNC__BIND_ADDRESS"])
        self.assertEqual(ports_in(" ".join(server["healthcheck"]["test"])), {metrics})
        self.assertEqual(ports_in(" ".join(mirror["healthcheck"]["test"])), {of_mirror})
        for name, service in services.items():
            for port in service.get("ports", []):
                self.assertNotIn(str(metrics), str(port), f"{name} opens it to others")
        return metrics, of_mirror

    def test_prometheus_of_compose_asks_where_the_programs_of_compose_answer(self):
        services = yaml.safe_load((TOP / "docker-compose.yml").read_text())["services"]
        metrics, of_mirror = self.check_services(services)
        scraped = yaml.safe_load((TOP / "deploy/observability/prometheus.yml").read_text())["scrape_configs"]
        targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in scraped}
        self.assertEqual(targets, {"tailwater": [f"tailwater:{metrics}"], "tailwater-sync": [f"mirror:{of_mirror}"]})
        for name in ("tailwater", "mirror"):
            self.assertTrue(set(services[name]["networks"]) & set(services["prometheus"]["networks"]), name)

    def test_swarm_asks_for_health_at_the_port_of_metrics(self):
        self.check_services(yaml.safe_load((TOP / "deploy/swarm/stack.yml").read_text())["services"])

    def test_fly_asks_for_metrics_and_health_at_one_port_in_clear(self):
        for environment in ENVIRONMENTS:
            config = tomllib.loads((TOP / f"deploy/fly/{environment}/fly.toml").read_text())
            metrics = port_of(config["env"]["DS_METRICS__ADDRESS"])
            self.assertNotEqual(metrics, port_of(config["env"]["DS_SERVER__BIND_ADDRESS"]))
            for asked in (config["metrics"], config["checks"]["ready"]):
                self.assertEqual(asked["port"], metrics)
                self.assertFalse({"https", "protocol", "tls_skip_verify"} & set(asked), "it speaks no TLS")
            mirror = tomllib.loads((TOP / f"deploy/fly/{environment}/mirror.toml").read_text())
            for asked in (mirror["metrics"], mirror["checks"]["alive"]):
                self.assertEqual(asked["port"], port_of(mirror["env"]["DS_SYNC__BIND_ADDRESS"]))

    def test_the_documents_name_the_port(self):
        compose = yaml.safe_load((TOP / "docker-compose.yml").read_text())["services"]["tailwater"]["environment"]
        address = compose["DS_METRICS__ADDRESS"]
        self.assertIn(f"`DS_METRICS__ADDRESS={address}`", (TOP / "docs/production.md").read_text())
        self.assertRegex((TOP / "docs/production.md").read_text(), rf"(?m)^\| Prometheus.* \| {port_of(address)}, TCP \|")


@unittest.skipUnless(shutil.which(tool("KUBECTL")[0]), "there is no kubectl")
class Kubernetes(unittest.TestCase):
    """What kustomize builds: settings, ports by name, probes, monitors and policies."""

    def setUp(self):
        self.objects = manifests(self, "production")
        self.container = self.objects["StatefulSet", "tailwater"]["spec"]["template"]["spec"]["containers"][0]
        self.ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}

    def test_settings_and_ports_of_the_pod_agree(self):
        [settings] = [item["data"] for (_, name), item in self.objects.items() if name.startswith("tailwater-settings")]
        self.assertEqual(self.ports["metrics"], port_of(settings["DS_METRICS__ADDRESS"]))
        self.assertEqual(self.ports["streams"], port_of(settings["DS_SERVER__BIND_ADDRESS"]))

    def test_probes_ask_the_port_of_metrics_in_clear(self):
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            self.assertEqual(self.container[probe]["httpGet"]["port"], "metrics")
            self.assertEqual(self.container[probe]["httpGet"].get("scheme", "HTTP"), "HTTP")

    def test_monitors_lead_by_services_to_ports_that_speak_as_they_do(self):
        service = {port["name"]: port for port in self.objects["Service", "tailwater"]["spec"]["ports"]}
        for name, port in service.items():
            self.assertEqual(port["port"], self.ports[port["targetPort"]], name)
        [endpoint] = self.objects["ServiceMonitor", "tailwater"]["spec"]["endpoints"]
        self.assertEqual(service[endpoint["port"]]["targetPort"], "metrics")
        self.assertFalse({"scheme", "tlsConfig"} & set(endpoint), "it speaks no TLS")

    def test_prometheus_reaches_metrics_and_no_streams_and_clients_no_metrics(self):
        rules = self.objects["NetworkPolicy", "tailwater"]["spec"]["ingress"]
        reachable = {}
        for rule in rules:
            for source in rule["from"]:
                [(kind, selector)] = source.items()
                [label] = selector["matchLabels"].values()
                reachable.setdefault((kind, label), set()).update(port["port"] for port in rule["ports"])
        streams, metrics = {STREAMS_PORT}, {self.ports["metrics"]}
        self.assertEqual(
            reachable,
            {
                ("podSelector", "edge"): streams,
                ("podSelector", "mirror"): streams,
                ("namespaceSelector", "monitoring"): metrics,
            },
        )


if __name__ == "__main__":
    unittest.main()
