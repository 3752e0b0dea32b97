# qcc's own chores. The Makefile of a compiled model is another one, written into its folder.
#
# Needs Python 3.11 or newer, a C compiler and make; everything else goes into $(VENV).
#   make demo VENV=~/qcc-env PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv
ifeq ($(origin CC),default)
CC := gcc
endif

DEMO := build/demo
DIGITS := build/digits
EXAMPLE := examples/digits

# Emulators and cross compilers, Debian and Ubuntu names. newlib and picolibc: only their headers.
CROSS_PACKAGES := gcc-arm-none-eabi libnewlib-arm-none-eabi gcc-riscv64-unknown-elf \
	picolibc-riscv64-unknown-elf qemu-system-arm qemu-system-misc clang
CROSS_TOOLS := arm-none-eabi-gcc riscv64-unknown-elf-gcc qemu-system-arm qemu-system-riscv32 clang

.PHONY: help demo test test-slow lint lint-ruff lint-types format setup-cross clean distclean

help:
	@echo 'make demo         compile the example model, check it bit by bit, measure it'
	@echo 'make test         the tests of every day (a few minutes)'
	@echo 'make test-slow    the exhaustive ones too'
	@echo 'make lint         ruff and mypy'
	@echo 'make format       let ruff rewrite what it can'
	@echo 'make setup-cross  install emulators and cross compilers (apt)'
	@echo 'make clean        remove build/; make distclean removes $(VENV) too'

# -- environments: a stamp file for each set of packages, renewed when pyproject.toml changes ------

# pip is the last thing that venv makes, so a half-made environment is made again.
$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo '$(PYTHON) is not Python 3.11 or newer; name one that is: make PYTHON=...' >&2; exit 1; }
	@echo '$(PYTHON) -m venv $(VENV)'
	@$(PYTHON) -m venv $(VENV) || \
		{ echo 'no virtual environment: on Debian or Ubuntu, apt install python3-venv' >&2; exit 1; }

$(VENV)/.qcc-examples: pyproject.toml | $(VENV)/bin/pip
	@echo 'installing qcc[examples] into $(VENV), which may take a minute'
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[examples]'
	@touch $@

$(VENV)/.qcc-dev: pyproject.toml | $(VENV)/bin/pip
	@echo 'installing qcc[dev,examples] into $(VENV), which may take a minute'
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,examples]'
	@touch $@ $(VENV)/.qcc-examples

# -- the demo -------------------------------------------------------------------------------------

$(DIGITS)/digits_eval.npz: $(EXAMPLE)/data.py $(VENV)/.qcc-examples
	$(VENV)/bin/python $(EXAMPLE)/data.py $(DIGITS)

demo: $(VENV)/.qcc-examples $(DIGITS)/digits_eval.npz
	$(VENV)/bin/qcc $(EXAMPLE)/digits.onnx -o $(DEMO) --force --target host \
		--calib $(DIGITS)/digits_calib.npz
	$(MAKE) --no-print-directory -C $(DEMO) check CC='$(CC)'
	$(VENV)/bin/qcc eval $(DEMO) --data $(DIGITS)/digits_eval.npz --model $(EXAMPLE)/digits.onnx
	$(CC) -std=c11 -O2 -Wall -Wextra -I$(DEMO) $(EXAMPLE)/main.c $(DEMO)/digits.c -o $(DEMO)/digits
	$(DEMO)/digits

# -- checks ---------------------------------------------------------------------------------------

test: $(VENV)/.qcc-dev
	$(VENV)/bin/python -m pytest -n auto $(PYTEST_ARGS)

test-slow: $(VENV)/.qcc-dev
	$(VENV)/bin/python -m pytest -n auto -m 'slow or not slow' $(PYTEST_ARGS)

lint: lint-ruff lint-types

lint-ruff: $(VENV)/.qcc-dev
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check

lint-types: $(VENV)/.qcc-dev
	$(VENV)/bin/mypy

format: $(VENV)/.qcc-dev
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

# -- tools of the targets -------------------------------------------------------------------------

setup-cross:
	@set -e; missing=''; for tool in $(CROSS_TOOLS); do \
		command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if [ -z "$$missing" ]; then echo 'all cross tools are installed'; exit 0; fi; \
	echo "missing:$$missing"; \
	command -v apt-get >/dev/null || \
		{ echo 'no apt-get here; install by hand: $(CROSS_PACKAGES)' >&2; exit 1; }; \
	sudo=''; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	packages='$(CROSS_PACKAGES)'; \
	set -x; \
	$$sudo apt-get update; \
	if apt-cache show qemu-system-riscv >/dev/null 2>&1; then \
		packages="$$packages qemu-system-riscv"; fi; \
	$$sudo env DEBIAN_FRONTEND=noninteractive \
		apt-get install --yes --no-install-recommends $$packages

clean:
	rm -rf build

distclean: clean
	rm -rf $(VENV)
