"""Alert rules, their tests and the dashboards, by promtool."""

import json
import re
import unittest

import yaml

from tools import TOP, expect_success, tool

HERE = TOP / "deploy/observability"
RULES = sorted((HERE / "rules").glob("*.yml"))
TESTS = sorted((HERE / "tests").glob("*.yml"))
DASHBOARDS = sorted((HERE / "grafana/dashboards").glob("*.json"))


def rules():
    """All alert rules, of both programs."""
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


class Rules(unittest.TestCase):
    """deploy/observability/rules and prometheus.yml."""

    def test_promtool_takes_the_rules_and_the_configuration(self):
        expect_success(self, [*tool("PROMTOOL"), "check", "rules", *RULES])
        expect_success(self, [*tool("PROMTOOL"), "check", "config", HERE / "prometheus.yml"])

    def test_each_rule_fires_when_it_should(self):
        expect_success(self, [*tool("PROMTOOL"), "test", "rules", *TESTS])

    def test_each_rule_is_tested_for_firing(self):
        tested = set()
        for path in TESTS:
            for test in yaml.safe_load(path.read_text())["tests"]:
                for expectation in test["promql_expr_test"]:
                    if expectation["exp_samples"]:
                        tested.add(re.search(r'alertname="(\w+)"', expectation["expr"]).group(1))
        self.assertEqual(tested, {rule["alert"] for rule in rules()})

    def test_each_alert_says_what_is_wrong_how_bad_it_is_and_where_to_read_on(self):
        runbook = (TOP / "docs/production.md").read_text()
        for rule in rules():
            with self.subTest(rule["alert"]):
                self.assertIn(rule["labels"]["severity"], ("warning", "critical"))
                self.assertTrue(rule["annotations"]["summary"])
                self.assertTrue(rule["annotations"]["description"])
                self.assertEqual(rule["annotations"]["runbook_url"], f"docs/production.md#{rule['alert'].lower()}")
                sections = re.findall(rf"^#+ {rule['alert']}$", runbook, re.M)
                self.assertEqual(len(sections), 1, "docs/production.md has one section for each alert")

    def test_no_section_is_for_an_alert_that_there_is_not(self):
        runbook = (TOP / "docs/production.md").read_text()
        sections = re.findall(r"^#+ (Tailwater[A-Z]\w+)$", runbook, re.M)
        self.assertEqual(set(sections), {rule["alert"] for rule in rules()})


class Dashboards(unittest.TestCase):
    """deploy/observability/grafana."""

    def test_promtool_takes_each_query(self):
        rules = []
        for path in DASHBOARDS:
            for panel in json.loads(path.read_text())["panels"]:
                for target in panel.get("targets", []):
                    query = target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")
                    self.assertNotIn("$", query, panel["title"])
                    rules.append({"record": f"query:{len(rules)}", "expr": query})
        self.assertGreater(len(rules), 50)
        document = yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]})
        expect_success(self, [*tool("PROMTOOL"), "check", "rules", "/dev/stdin"], input=document)

    def test_whoever_gets_an_alert_sees_what_it_looks_at_on_a_dashboard(self):
        metric = re.compile(r"\b(?:tailwater|process)_[a-z_]+")
        shown = set()
        for path in DASHBOARDS:
            for panel in json.loads(path.read_text())["panels"]:
                for target in panel.get("targets", []):
                    shown |= set(metric.findall(target["expr"]))
        for rule in rules():
            with self.subTest(rule["alert"]):
                self.assertEqual(set(metric.findall(rule["expr"])) - shown, set())

    def test_panels_do_not_overlap_and_have_numbers_of_their_own(self):
        for path in DASHBOARDS:
            panels = json.loads(path.read_text())["panels"]
            self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
            taken = set()
            for panel in panels:
                place = panel["gridPos"]
                cells = {
                    (x, y)
                    for x in range(place["x"], place["x"] + place["w"])
                    for y in range(place["y"], place["y"] + place["h"])
                }
                self.assertFalse(taken & cells, f"{path.name}: {panel['title']}")
                self.assertLessEqual(max(x for x, _ in cells), 23, panel["title"])
                taken |= cells

    def test_grafana_finds_them_where_compose_puts_them(self):
        provider = yaml.safe_load((HERE / "grafana/provisioning/dashboards/tailwater.yml").read_text())["providers"][0]
        volumes = yaml.safe_load((TOP / "docker-compose.yml").read_text())["services"]["grafana"]["volumes"]
        expected = f"./deploy/observability/grafana/dashboards:{provider['options']['path']}:ro"
        self.assertIn(expected, volumes)


if __name__ == "__main__":
    unittest.main()
