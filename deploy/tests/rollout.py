"""One place to deploy from: a copy of the sources, settings with files of secrets, and fakes of the outside tools. And what
kustomize builds there.
"""

import os
import pathlib
import shutil
import tempfile

import yaml

import fakes
from tools import copy_of_sources, run, tool

# What each file of a secret has in it; no argument and no output may have it.
SECRETS = {
    "registry": "marker-of-the-registry",
    "edge.crt": "marker-of-the-edges-certificate",
    "edge.key": "marker-of-the-edges-key",
    "server.crt": "marker-of-the-servers-certificate",
    "server.key": "marker-of-the-servers-key",
    "server-ca.crt": "marker-of-the-authority",
    "postgres": "postgres://mirror:marker-of-postgres@db/logs",
    "fly": "marker-of-fly",
}


# What Swarm says of a first version all of whose tasks run.
ALL_RUN = ("stack services --format", "tailwater_tailwater 1/1\ntailwater_edge 1/1\ntailwater_mirror 2/2\n", 0)


class Place:
    """A copy of the sources in a temporary directory, which goes with the test."""

    def __init__(self, test, rules=()):
        directory = tempfile.TemporaryDirectory()
        test.addCleanup(directory.cleanup)
        self.top = copy_of_sources(pathlib.Path(directory.name))
        self.tools = self.top / "tools"
        fakes.install(self.tools, [*rules, ALL_RUN])
        files = self.top / "files"
        files.mkdir()
        for name, content in SECRETS.items():
            (files / name).write_text(content + "\n")
        self.settings = {
            "DEPLOY_IMAGE": "registry.test/tailwater",
            "DEPLOY_TAG": "v2",
            "REGISTRY_HOST": "registry.test",
            "REGISTRY_USER": "robot",
            "REGISTRY_PASSWORD_FILE": files / "registry",
            "EDGE_ISSUER": "https://issuer.test/",
            "EDGE_AUDIENCES": "https://streams.test",
            "EDGE_JWKS_URI": "https://issuer.test:8444/keys",
            "EDGE_CERTIFICATE_FILE": files / "edge.crt",
            "EDGE_CERTIFICATE_KEY_FILE": files / "edge.key",
            "SERVER_CERTIFICATE_FILE": files / "server.crt",
            "SERVER_KEY_FILE": files / "server.key",
            "SERVER_CA_FILE": files / "server-ca.crt",
            "MIRROR_STREAMS": "runs/**",
            "MIRROR_POSTGRES_URL_FILE": files / "postgres",
            "HEALTHCHECK_URL": "https://streams.test/healthz",
            "HEALTHCHECK_ATTEMPTS": "3",
            "HEALTHCHECK_INTERVAL_SECS": "0",
            "FLY_API_TOKEN_FILE": files / "fly",
        }

    def deploy(self, target, environment="staging", **variables):
        """Runs the script with the settings as variables, and these besides; one that is None is left out."""
        given = {name: str(value) for name, value in {**self.settings, **variables}.items() if value is not None}
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("DEPLOY_", "FLY_"))}
        kubectl = shutil.which(tool("KUBECTL")[0])
        environ["PATH"] = f"{self.tools}:{environ['PATH']}"
        if kubectl:
            environ["REAL_KUBECTL"] = kubectl
        return run([self.top / "deploy/deploy", target, environment], env={**environ, **given})

    def commands(self):
        """What the tools were asked, in its order."""
        return fakes.commands(self.tools)


_manifests = {}


def manifests(test, environment):
    """All objects that a rollout gives to Kubernetes, by kind and name. They are built once and only read."""
    if environment not in _manifests:
        place = Place(test)
        result = place.deploy("kubernetes", environment)
        test.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        items = yaml.safe_load_all((place.tools / "manifests.yaml").read_text())
        _manifests[environment] = {(item["kind"], item["metadata"]["name"]): item for item in items}
    return _manifests[environment]
