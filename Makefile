# One command each; CI runs the same. `make demo ARGS=--headless`, `make bench ARGS=--quick`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
GYM_HIL := .venv-gym-hil
STAMP := $(VENV)/.robot-rl-installed
# On a sourced ROS 2 install its own rclpy is used; elsewhere it comes from wheels.
EXTRAS ?= sim,cousins,twin,realsense,gui,play,score,words,export,bench,dev$(if $(ROS_DISTRO),,$(comma)ros)
comma := ,
# Debian package and the file that shows it is there. `make setup BROWSER=1` adds what the browser tests need.
SYSTEM := libegl1=libEGL.so.1 libosmesa6=libOSMesa.so libgl1=libGL.so.1 libusb-1.0-0=libusb-1.0.so.0 \
          gcc=gcc libc6-dev=linux/input.h $(if $(BROWSER),chromium=chromium)
PYTEST ?= -q
ARGS ?=

.PHONY: help setup system demo test format type lint bench gym-hil clean

help:
	@echo "make demo | test | format | type | lint | bench | gym-hil | setup | clean"

setup: $(STAMP)

$(STAMP): pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else "robot-rl needs Python 3.11 or newer, but $(PYTHON) is %d.%d; run make PYTHON=python3.11" % v)'
	@$(MAKE) --no-print-directory system
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo 'cannot make a virtual environment; on Debian: apt-get install python3-venv' >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

# Installs missing system libraries where that needs no password; otherwise says how, and goes on.
system:
	@missing=; for pair in $(SYSTEM); do package=$${pair%%=*}; file=$${pair#*=}; \
	  if { PATH="$$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null | grep -qF "$$file"; } \
	    || command -v "$$file" >/dev/null 2>&1 || test -e "/usr/include/$$file"; then :; \
	  else missing="$$missing $$package"; fi; done; \
	test -n "$$missing" || exit 0; \
	install="apt-get update && apt-get install --yes --no-install-recommends$$missing"; \
	root=; if [ "$$(id -u)" != 0 ]; then root="sudo -n"; fi; \
	if command -v apt-get >/dev/null 2>&1 && $$root true 2>/dev/null; then \
	  echo "installing system libraries:$$missing"; \
	  $$root sh -c "export DEBIAN_FRONTEND=noninteractive; $$install" >/dev/null && exit 0; fi; \
	echo "missing system libraries; as root run: $$install" >&2

demo: setup
	$(BIN)/robot-rl demo $(ARGS)

test: setup
	@# 5: none of the tests asked for is of this kind
	$(BIN)/python -m pytest $(PYTEST) -m "not processes" -n 2 --dist loadfile $(ARGS) || [ $$? -eq 5 ]
	$(BIN)/python -m pytest $(PYTEST) -m processes $(ARGS) || [ $$? -eq 5 ]

format: setup
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

type: setup
	$(BIN)/pyright

# gym-hil needs another mujoco, so an environment of its own; then the same command line. `make gym-hil ARGS=seed=3`.
gym-hil: system
	@test -x $(GYM_HIL)/bin/python || $(PYTHON) -m venv $(GYM_HIL)
	@grep -v '^mujoco==' constraints.txt > $(GYM_HIL)/constraints.txt
	$(GYM_HIL)/bin/pip install --quiet --constraint $(GYM_HIL)/constraints.txt --editable '.[bench]' gym-hil==0.1.14 mujoco==3.8.1
	$(GYM_HIL)/bin/robot-rl train task=gym_hil_pick $(ARGS)

# Every benchmark; `ARGS=--quick` ends within 30 minutes each.
bench: setup
	@mkdir -p runs/benchmarks
	@set -e; for file in benchmarks/*.py; do case "$$file" in */_*) continue;; esac; \
	  name=$$(basename "$$file" .py); echo "== $$name"; \
	  $(BIN)/python "$$file" --out "runs/benchmarks/$$name.json" $(ARGS); done

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache .grimp_cache
	find robot_rl sim hardware policies data tests benchmarks launch -name __pycache__ -type d -prune -exec rm -rf {} +
