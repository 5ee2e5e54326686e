# `make demo` and `make test` are all there is to know. Both set up what they need: Debian packages (.ci/packages) and
# a virtual environment in .venv. Both need root, for disks and namespaces.

SHELL := /bin/bash
PYTHON ?= python3
# Two workers for a core: the tests wait for machines to boot, and for clocks, for more than half of their time.
WORKERS ?= $(shell expr $$(nproc) \* 2)
# Arguments for pytest: make test ARGS="-k hosts -x"
ARGS ?=

BIN := .venv/bin
# Tools are called as modules where they can be: a script's `#!` line holds no path with a space, and no long one.
QUIET_PIP := python -m pip --quiet --quiet --disable-pip-version-check --no-input
PIP := $(BIN)/$(QUIET_PIP)
# As variables they hold for what the build itself needs, too; newer releases of pip want the second for that.
PINNED := PIP_CONSTRAINT=requirements.lock PIP_BUILD_CONSTRAINT=requirements.lock
# Network, mounts and everything under them are the test run's own, and end with it.
PRIVATE := unshare --net --mount --propagation private
# .ci/run has pytest remember what failed.
CACHE ?= -p no:cacheprovider
PYTEST := $(BIN)/python -m pytest $(CACHE)
STYLED := protokube nodeup release tests benchmarks examples examples/demo

# Programs under test start as they do where they are installed: with bytecode, which this variable forbids to write.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup lock demo test test-fast test-etcd test-vm test-boot test-cluster test-cluster-quick test-browser pyz deb safety lint bench clean

help:
	@echo 'make demo       a bare machine becomes a node, on sparse files; leaves nothing behind (KEEP=1 keeps it; see docs/control-plane.md for KUBERNETES)'
	@echo 'make test       all tests: real disks, systemd, etcd, name servers, in namespaces of their own'
	@echo 'make test-fast  the tests that need no root'
	@echo 'make test-etcd  clusters of three etcd members that are moved, replaced, upgraded, restored (minutes)'
	@echo 'make test-vm    a virtual machine with a real udev and NVMe disks (fetches Debian; minutes; not part of test)'
	@echo 'make safety     every claim about disks against its full set of cases, as one table (minutes; a sample is in test)'
	@echo 'make lint       ruff, mypy --strict, import contracts'
	@echo 'make pyz        build/protokube.pyz: protokube and nodeup in one file, for Debian 12 and 13 with python3 alone'
	@echo 'make deb        build/protokube_VERSION_ARCH.deb: the same as a Debian package'
	@echo 'make test-boot  stock Debians become nodes at their first boot and in image builds (fetches them; minutes)'
	@echo 'make test-cluster  a real Kubernetes on nodes in namespaces (builds it from Debian sources: 7 minutes of CPU, once)'
	@echo 'make test-cluster-quick  the minutes of it that a build server has'
	@echo "make test-browser  the hub's page in a real browser (fetches Debian's chromium)"
	@echo 'make bench      the figures of docs/performance.md'
	@echo 'make setup      packages and .venv only;   make clean   removes what was built'
	@echo 'make lock       pins the Python packages of requirements.lock to the newest releases that pyproject.toml allows'

setup: .venv/installed

.venv/packages: .ci/packages .ci/install-packages
	@.ci/install-packages
	@mkdir -p .venv && touch $@

.venv/installed: pyproject.toml requirements.lock | .venv/packages
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed' >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo 'Installing Python packages into .venv (a minute or two)'
	@$(PINNED) $(PIP) install --editable '.[test]' </dev/null
	@touch $@

# Today's releases within pyproject's bounds, for everybody's next `make setup`.
lock:
	@rm -rf build/lock && $(PYTHON) -m venv build/lock
	@build/lock/bin/$(QUIET_PIP) install --editable '.[test]' </dev/null
	@{ sed '/^#/!d' requirements.lock; build/lock/bin/python -m pip freeze --exclude-editable; } >build/lock/new
	@mv build/lock/new requirements.lock && rm -rf build/lock

demo: setup
	@$(BIN)/python examples/demo

test: setup build/containerd/made build/etcd/made build/redis/made
	@test "$$(id -u)" = 0 || { echo 'make test needs root (make test-fast does not)' >&2; exit 1; }
	$(PRIVATE) $(PYTEST) -n $(WORKERS) --dist loadgroup $(ARGS)

test-fast: setup build/containerd/made build/redis/made
	$(PYTEST) -n $(WORKERS) -m 'not root' $(ARGS)

# Half as many at a time as elsewhere: each test has three machines, whose etcd elects anew when it starves.
test-etcd: setup build/etcd/made
	@test "$$(id -u)" = 0 || { echo 'make test-etcd needs root' >&2; exit 1; }
	$(PRIVATE) $(PYTEST) -n $$(( ($(WORKERS) + 1) / 2 )) --dist loadgroup tests/etcd $(ARGS)

test-vm: setup build/vm/made build/image/made
	@test "$$(id -u)" = 0 || { echo 'make test-vm needs root' >&2; exit 1; }
	$(PRIVATE) $(PYTEST) tests/vm $(ARGS)

build/vm/made: .ci/packages-vm | setup
	@.ci/install-packages packages-vm
	@echo 'Fetching Debian for a virtual machine into build/vm (a minute or two)'
	@$(BIN)/python -m tests.lab.vm build/vm
	@touch $@

build/image/made: .ci/packages-vm tests/lab/image_root.py | setup
	@.ci/install-packages packages-vm
	@echo 'Fetching Debian for images into build/image (a minute or two)'
	@$(BIN)/python -m tests.lab.image_root build/image
	@touch $@

# ARGS="--write" puts the figures into docs/safety.md; ARGS="power own" runs these claims alone;
# ARGS="--within 20" begins no case after 20 minutes, and draws them by lot.
# ARGS=moves must be asked for: it changes a running etcd 102 times, which takes most of an hour.
safety: setup build/safety/made build/etcd/made
	@test "$$(id -u)" = 0 || { echo 'make safety needs root' >&2; exit 1; }
	$(PRIVATE) $(BIN)/python -m tests.safety $(ARGS)

# containerd of three releases, whose own judgement the tests ask for.
build/containerd/made: .ci/packages-containerd .ci/unpack-packages | setup
	@echo 'Fetching containerd 1.6, 1.7 and 2.1 into build/containerd'
	@set -e; for suite in bookworm trixie sid; do \
	  .ci/unpack-packages packages-containerd build/containerd/$$suite $$suite; done
	@touch $@

# etcd 3.5 of two releases, beside the machine's own 3.4: upgrades, and restores with etcdutl.
build/etcd/made: .ci/packages-etcd .ci/unpack-packages | setup
	@echo 'Fetching etcd 3.5 of Debian 13 and sid into build/etcd'
	@set -e; for suite in trixie sid; do .ci/unpack-packages packages-etcd build/etcd/$$suite $$suite; done
	@touch $@

# Redis and Sentinel, which kubeleet's tests run.
build/redis/made: .ci/packages-redis .ci/unpack-packages | setup
	@echo 'Fetching Redis into build/redis'
	@.ci/unpack-packages packages-redis build/redis bookworm
	@touch $@

build/safety/made: .ci/packages-safety .ci/unpack-packages | setup
	@echo 'Fetching the tools of other filesystems into build/safety'
	@.ci/unpack-packages packages-safety build/safety
	@touch $@

lint: setup
	$(BIN)/python -m ruff check $(wildcard $(STYLED))
	$(BIN)/python -m ruff format --check $(wildcard $(STYLED))
	$(BIN)/python -m mypy --strict
	$(BIN)/lint-imports

pyz: build/protokube.pyz

build/protokube.pyz: $(shell find protokube nodeup templates systemd release/pyz -type f ! -name '*.pyc') pyproject.toml requirements.lock | setup
	@echo 'Building $@ (a minute)'
	@$(BIN)/python -m release.pyz $@

# The same once more, in other surroundings: a test compares them.
build/again/protokube.pyz: build/protokube.pyz
	@umask 077 && TZ=Pacific/Kiritimati PYTHONHASHSEED=7 $(BIN)/python -m release.pyz $@

deb: build/protokube.deb

build/protokube.deb: build/protokube.pyz $(wildcard release/deb/*)
	@ln -sf "$$(basename "$$($(BIN)/python -m release.deb $< build)")" $@ && readlink -f $@

# Stock Debian 12 and 13 with cloud-init: first boots, image builds, the one file and the package.
test-boot: setup build/boot/made build/mkosi/made build/protokube.deb build/again/protokube.pyz
	@test "$$(id -u)" = 0 || { echo 'make test-boot needs root' >&2; exit 1; }
	$(PRIVATE) $(PYTEST) tests/boot $(ARGS)

build/boot/made: .ci/packages-vm .ci/packages-boot tests/lab/stock.py | setup
	@.ci/install-packages packages-vm && .ci/install-packages packages-boot
	@echo 'Fetching Debian 12 and 13 into build/boot (minutes)'
	@$(BIN)/python -m tests.lab.stock build/boot
	@touch $@

build/mkosi/made: .ci/packages-mkosi tests/lab/mkosi_image.py docs/image-builds.md build/protokube.pyz | setup
	@.ci/unpack-packages packages-mkosi build/mkosi trixie
	@echo 'Building an image with mkosi into build/mkosi (minutes)'
	@$(BIN)/python -m tests.lab.mkosi_image build/mkosi >build/mkosi/log 2>&1 || { cat build/mkosi/log; exit 1; }
	@touch $@

# A real Kubernetes, containerd and network plugins, on machines with a real systemd in namespaces.
test-cluster: setup
	@test "$$(id -u)" = 0 || { echo 'make test-cluster needs root' >&2; exit 1; }
	@$(if $(findstring not kubelet,$(ARGS)),,$(BIN)/python -m tests.lab.legacy_cgroups $@)
	@$(MAKE) --no-print-directory build/kubernetes/made
	$(PRIVATE) $(PYTEST) -n $$(( ($(WORKERS) + 1) / 2 )) --dist loadfile tests/cluster $(ARGS)

# The minutes of it that a build server has: a node with a worker, and all that asks an API server alone.
QUICK := one_node static_etcd join addons token_command command_lines agent_contract agent_node
MINUTES := tests/cluster/test_agent_node.py::test_etcd_s_static_pod_is_replaced_while_the_api_server_is_away
test-cluster-quick: setup
	@test "$$(id -u)" = 0 || { echo 'make test-cluster-quick needs root' >&2; exit 1; }
	@$(if $(findstring not kubelet,$(ARGS)),,$(BIN)/python -m tests.lab.legacy_cgroups $@)
	@$(MAKE) --no-print-directory build/kubernetes/made
	$(PRIVATE) $(PYTEST) -n $$(( ($(WORKERS) + 1) / 2 )) --dist loadfile $(QUICK:%=tests/cluster/test_%.py) --deselect $(MINUTES) $(ARGS)

build/kubernetes/made: .ci/packages-kubernetes .ci/build-kubernetes .ci/unpack-packages tests/lab/kubernetes.py tests/lab/kubernetes.go tests/lab/container_image.py tests/lab/pod_program.go | setup
	@.ci/unpack-packages packages-kubernetes build/kubernetes bookworm
	@echo 'Building Kubernetes from Debian sources into build/kubernetes (7 minutes of CPU; once)'
	@.ci/build-kubernetes build/kubernetes
	@$(BIN)/python -m tests.lab.kubernetes build/kubernetes
	@touch $@

test-browser: setup build/browser/made
	@test "$$(id -u)" = 0 || { echo 'make test-browser needs root' >&2; exit 1; }
	$(PRIVATE) sh -c 'ip link set lo up && exec "$$0" "$$@"' $(PYTEST) tests/browser $(ARGS)

build/browser/made: .ci/packages-browser .ci/unpack-packages | setup
	@echo "Fetching Debian's chromium into build/browser"
	@.ci/unpack-packages packages-browser build/browser
	@touch $@

bench: setup build/protokube.pyz build/redis/made
	$(PRIVATE) $(BIN)/python -m benchmarks

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
