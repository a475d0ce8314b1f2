# Every target works from a clean clone, without an activated environment.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
ASSETS := $(VENV)/.assets
JOBS ?= 3
PRESET ?= support-desk
DEMO_FLAGS := $(if $(filter 1,$(ONCE)),--once)

.PHONY: help setup assets demo test check bench fidelity faults crash lock clean sim chaos seeded-bugs goals browser screenshots \
  portal-figures words rotation

help:  ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup: $(STAMP) $(ASSETS)  ## A virtual environment with pinned, hash-checked dependencies, and the browser assets

$(STAMP): requirements/dev.txt pyproject.toml
	@set -e; if [ ! -x $(BIN)/python ]; then \
	  $(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed; on Debian: apt-get install python3-venv"; exit 1; }; fi
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Ownkey needs Python 3.11 or newer"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Without npm there is no stamp: it is asked for again the next time.
$(ASSETS): $(STAMP) package.json package-lock.json tools/assets/__main__.py
	@$(BIN)/python -m tools.assets --optional --stamp $@

assets: $(STAMP)  ## htmx as the lock file pins it, beside our own scripts (needs npm)
	$(BIN)/python -m tools.assets --stamp $(ASSETS)

demo: setup  ## The main job beside the provider emulator; PRESET=support-desk|app-builder, ONCE=1 exits
	$(BIN)/ownkey demo --preset $(PRESET) $(DEMO_FLAGS)

test: setup check  ## Everything that must hold, in a few minutes
	$(BIN)/python -m pytest -n $(JOBS) --dist loadscope --no-loadscope-reorder

check: setup  ## Style, types, the rooms
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup  ## Calls per second and CPU per call on one core, as ratios in one run
	$(BIN)/python -m tools.bench

fidelity: setup  ## Replay recorded provider traffic through the gateway; RECORDINGS=<folder>
	@test -n "$(RECORDINGS)" || { echo "Say which recordings: make fidelity RECORDINGS=<folder>"; exit 2; }
	$(BIN)/python -m tools.fidelity $(RECORDINGS)

faults: setup  ## Every way a provider fails, in every dialect and mode; writes docs/faults.md (ten minutes)
	$(BIN)/python -m tools.faults

crash: setup  ## kill -9 in the middle of calls, many times
	$(BIN)/python -m pytest tests/system/test_crash.py --crash-rounds=60

sim: setup  ## Simulated worlds judged by the bill book; SEED=7 repeats one, SEEDS=500 plays many, STEPS=80
	$(BIN)/python -m tools.sim --seed $(or $(SEED),1) --seeds $(or $(SEEDS),1) --steps $(or $(STEPS),80) --jobs $(JOBS)

chaos: setup  ## kill -9 of a real server under calls (ROUNDS=33 times) and under payments, at named points and at random
	$(BIN)/python -m tools.chaos --rounds $(or $(ROUNDS),33) --seed $(or $(SEED),1)

seeded-bugs: setup  ## Plants plausible mistakes one by one into a copy; each must be caught
	$(BIN)/python -m tools.seeded_bugs --jobs $(JOBS)

rotation: setup  ## The master key of WORKSPACES=10000 workspaces, rotated under calls, and again through a kill -9
	$(BIN)/python -m tools.rotation --workspaces $(or $(WORKSPACES),10000)

goals: setup  ## Measures the goals of the money's contract; writes docs/goals.md (a quarter of an hour)
	$(BIN)/python -m tools.goals

browser: setup  ## Every page and state in Chromium, and the journeys; MATRIX=whole (some minutes)
	OWNKEY_MATRIX=whole $(BIN)/python -m pytest -n $(JOBS) --dist loadscope tests/browser

screenshots: setup  ## Every page and state as a picture, and a contact sheet of each page; ONLY=credentials
	$(BIN)/python -m tools.screenshots $(if $(ONLY),--only $(ONLY))

words: setup  ## The catalogue of the portal's texts, which [portal.words] is checked against
	$(BIN)/python -m tools.words

portal-figures: setup  ## The pages over a million calls: milliseconds, bytes, widths
	$(BIN)/python -m tools.portal_figures

lock: setup  ## Re-pin the requirements with hashes
	cd requirements && ../$(BIN)/pip-compile -q --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links --no-header -o runtime.txt runtime.in
	cd requirements && ../$(BIN)/pip-compile -q --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links --no-header -o dev.txt dev.in

clean:
	rm -rf $(VENV) node_modules screenshots src/ownkey/pages/assets/vendor .mypy_cache .ruff_cache .pytest_cache .hypothesis
