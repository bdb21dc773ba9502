#!/usr/bin/env bash
# One command to try, run and test QoSFlow; see usage below. The environment is made here, the rest in scripts/.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"
VENV="${QOSFLOW_VENV:-$ROOT/.venv}"
EXTRAS="embedded,darshan,figures,dev"
EXECUTOR="${QOSFLOW_EXECUTOR:-}"

usage() {
    cat <<'USAGE'
Usage: ./setup.sh COMMAND

  demo         bring everything up, measure and trace a small workflow, let QoSFlow choose its storage tiers for a
               deadline, run it on them, and compare predicted with measured time
  up           start Postgres and Airflow (api-server, scheduler, dag-processor, triggerer) on this machine only
  down         stop them; the data stay
  status       what runs, whether it is healthy, and where to log in
  airflow ...  any Airflow command in that environment, for example: ./setup.sh airflow dags list
  qosflow ...  any QoSFlow command in that environment, for example: ./setup.sh qosflow models
  test ...     lint, types, architecture and all tests; arguments go to pytest
  test-kubernetes ...  the tests on a real cluster: the one that KUBECONFIG names, with the workload's image loaded
  lock         remake constraints/ (newest versions that fit together; with --keep, those that are there)
  help         this text

Each command makes the Python environment first where it is missing or out of date.

Environment variables:
  QOSFLOW_HOME                    state folder; default .qosflow in this folder. Nothing outside it is written, but
                                  for the demo's files in memory, which "down" removes, and system packages.
  QOSFLOW_SYSTEM_PACKAGES         "no" leaves out installing fio, with which storage is measured, and chromium, in
                                  which the pages are tested; they are installed where run as root
  QOSFLOW_SCREENSHOTS             where the tests leave pictures of the pages; default .qosflow/screenshots
  QOSFLOW_POSTGRES_URL            your own server instead of the embedded one: postgresql://user:password@host:port
                                  (remembered; the value "embedded" goes back). Its user may create databases, or
                                  both exist already. A database in the URL is used for creating ours only.
  QOSFLOW_AIRFLOW_DATABASE_NAME   name of Airflow's metadata database there; default airflow
  QOSFLOW_DATABASE_NAME           name of QoSFlow's database there; default qosflow
  QOSFLOW_POSTGRES_ACCOUNT        as root: the account of the embedded Postgres; default postgres, else a new one
  QOSFLOW_EXECUTOR                "celery": two workers and a Redis run the tasks (redis-server must be installed);
                                  "local" goes back (remembered)
  QOSFLOW_PORT                    port of the web page on 127.0.0.1; default a free one
  QOSFLOW_MEMORY_TIER             the demo's tier in memory: a folder on a tmpfs; default one in /dev/shm
  QOSFLOW_PYTHON                  the Python to use, 3.11 to 3.13; default the newest of these that works
  QOSFLOW_VENV                    folder of the Python environment; default .venv in this folder
USAGE
}

say() { printf '%s\n' "$*"; }

fail() { # fail MESSAGE CURE
    printf '\nsetup: %s\n       %s\n' "$1" "$2" >&2
    exit 1
}

# Succeeds for a Python of the right age that can make environments. A shim may exist and still not run.
is_suitable_python() {
    "$1" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

find_python() {
    local candidate
    if [ -n "${QOSFLOW_PYTHON:-}" ]; then
        is_suitable_python "$QOSFLOW_PYTHON" || fail \
            "QOSFLOW_PYTHON=$QOSFLOW_PYTHON does not run, is not Python 3.11 to 3.13, or lacks the module venv." \
            "Name another, or leave QOSFLOW_PYTHON out."
        printf '%s\n' "$QOSFLOW_PYTHON"
        return
    fi
    for candidate in python3.13 python3.12 python3.11 python3 python; do
        if command -v "$candidate" >/dev/null && is_suitable_python "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "No Python 3.11, 3.12 or 3.13 with the module venv was found on PATH." \
        "Install one (Debian, Ubuntu: apt-get install python3 python3-venv), or name one: QOSFLOW_PYTHON=/path/to/python"
}

# Celery is installed where it is asked for, and stays so.
choose_extras() {
    if [ "$EXECUTOR" = celery ] || [ -e "$VENV/.qosflow-celery" ]; then
        EXTRAS="embedded,celery,darshan,figures,dev"
    fi
}

# What the environment was made from. When it changes, the environment is out of date.
environment_mark() {
    { printf '%s\n' "$ROOT" "$EXTRAS" && cat "$ROOT/setup.py" "$ROOT"/constraints/*.txt; } | cksum
}

ensure_environment() {
    local mark python release
    choose_extras
    mark="$(environment_mark)"
    if [ -x "$VENV/bin/python" ] && [ "$(cat "$VENV/.qosflow" 2>/dev/null)" = "$mark" ] &&
        "$VENV/bin/python" -c '' 2>/dev/null; then
        return
    fi
    if [ ! -e "$VENV" ]; then
        python="$(find_python)"
        say "Python: making the environment $VENV with $("$python" --version)"
        "$python" -m venv "$VENV" || fail "The environment $VENV could not be made; see above." \
            "Give a folder that you may write: QOSFLOW_VENV=/path/to/folder ./setup.sh $COMMAND"
    elif ! is_suitable_python "$VENV/bin/python"; then
        fail "The Python environment $VENV does not run, or is not Python 3.11 to 3.13." \
            "Remove that folder and try again; it is made anew."
    fi
    [ -w "$ROOT" ] && [ -w "$VENV" ] || fail "$ROOT and $VENV must be writable to install into the environment." \
        "Work in a clone of your own, or ask for the right to write there."
    release="$("$VENV/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
    say "Python: installing the versions of constraints/constraints-$release.txt (a minute or two)"
    # What was installed, and from where, goes to the log only.
    install_packages "$ROOT/constraints/constraints-$release.txt" 2>&1 | tee "$VENV/install.log" |
        sed -e '/^ /d' -e '/^Installing collected /d' -e '/^Successfully installed /d' -e 's/ (from .*//' || fail "The packages could not be installed; see above." "$(installation_cure)"
    printf '%s\n' "$mark" >"$VENV/.qosflow"
    [ "$EXECUTOR" != celery ] || touch "$VENV/.qosflow-celery"
}

# uv is several times faster. Where it cannot be had, or cannot reach what pip can, pip does the same.
install_packages() {
    local python="$VENV/bin/python"
    "$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip
    if "$python" -m pip install --quiet --disable-pip-version-check --constraint "$1" uv &&
        "$python" -m uv pip install --system-certs --python "$python" --constraint "$1" --editable "$ROOT[$EXTRAS]"; then
        return
    fi
    say "Python: uv could not install the packages; pip tries"
    "$python" -m pip install --disable-pip-version-check --constraint "$1" --editable "$ROOT[$EXTRAS]"
}

installation_cure() {
    if grep -qiE "(gcc|g\+\+|clang|\bcc\b|compiler).*(not found|no such file|cannot be found|failed)" "$VENV/install.log"; then
        say "A package had to be compiled and there is no compiler: install one (Debian: apt-get install" \
            "build-essential), or use a Python for which all packages come ready made (QOSFLOW_PYTHON)."
    else
        say "Check the network, the disk's free space, and the package index that pip uses (pip config list);" \
            "what was said is in $VENV/install.log."
    fi
}

# System packages: only root can install them, and nobody must.
ensure_fio() {
    ensure_system "Without it, processes of QoSFlow's own measure direct I/O." fio
}

ensure_chromium() {
    ensure_system "Without it, the tests in a browser are skipped." chromium fonts-dejavu-core
}

ensure_system() { # ensure_system WITHOUT PROGRAM [PACKAGE ...]; the program's package is called like it
    local without="$1" program="$2"
    shift
    ! command -v "$program" >/dev/null || return 0
    local cure="Debian, Ubuntu: apt-get install $*. $without"
    if [ "${QOSFLOW_SYSTEM_PACKAGES:-yes}" != yes ] || [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        say "$program is not installed. $cure"
        return
    fi
    say "Installing $program (QOSFLOW_SYSTEM_PACKAGES=no leaves it out)"
    { install_system "$@" || { apt-get update && install_system "$@"; }; } >/dev/null 2>&1 ||
        say "$program could not be installed. $cure"
}

install_system() {
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install --yes --no-install-recommends "$@"
}

bringup() {
    exec "$VENV/bin/python" "$ROOT/scripts/bringup.py" "$@"
}

# Every check runs, whatever the others found; the tests come last, so that their summary is the last line.
run_tests() {
    local broken=""
    cd "$ROOT"
    export PATH="$VENV/bin:$PATH"
    check() {
        say "== $*"
        "$@" || broken="$broken, $*"
    }
    check ruff check .
    check ruff format --check .
    check mypy
    check lint-imports --no-logo
    [ -z "$broken" ] || say "== failed: ${broken#, } (the tests follow)"
    say "== pytest"
    # One process per core as it is; threads of linear algebra on top of them only wait for each other.
    export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
    # Not python -m pytest: that puts this folder on the path, where setuptools leaves a second set of metadata.
    pytest -n auto --dist loadfile "$@" || exit
    [ -z "$broken" ]
}

require_cluster() {
    [ -n "${KUBECONFIG:-}" ] || fail "No cluster is given: KUBECONFIG is not set." \
        "Name the kubeconfig of a cluster on this machine: KUBECONFIG=/path/to/kubeconfig ./setup.sh test-kubernetes"
    [ -r "$KUBECONFIG" ] || fail "KUBECONFIG=$KUBECONFIG cannot be read." "Start the cluster, or name another file."
}

# Pods on the cluster that KUBECONFIG names, after the same on a pods API of our own.
run_cluster_tests() {
    cd "$ROOT"
    exec "$VENV/bin/pytest" -rs tests/kubernetes tests/system/test_kubernetes.py "$@"
}

COMMAND="${1:-help}"
[ "$#" -eq 0 ] || shift
case "$COMMAND" in
    demo | up | down | status)
        [ "$#" -eq 0 ] || fail "./setup.sh $COMMAND takes no arguments." "See ./setup.sh help."
        ensure_environment
        case "$COMMAND" in demo | up) ensure_fio ;; esac
        bringup "$COMMAND"
        ;;
    airflow | qosflow)
        ensure_environment >&2
        bringup run "$COMMAND" "$@"
        ;;
    test)
        ensure_environment
        ensure_fio
        ensure_chromium
        run_tests "$@"
        ;;
    test-kubernetes)
        require_cluster
        ensure_environment
        run_cluster_tests "$@"
        ;;
    lock)
        ensure_environment
        exec "$VENV/bin/python" "$ROOT/scripts/lock.py" "$@"
        ;;
    help | -h | --help)
        usage
        ;;
    *)
        usage >&2
        fail "There is no command '$COMMAND'." "See the list above."
        ;;
esac
