#!/usr/bin/env bash
# Consumes a server's log with a Kafka consumer in Python, and prints what it found as JSON:
#   tests/kafka.sh ADDR:PORT first|again
#   tests/kafka.sh ADDR:PORT secured DIR
# DIR has a client's certificate. The consumer is installed below the target directory, once.
set -euo pipefail
cd "$(dirname "$0")"
tools="${CARGO_TARGET_DIR:-$PWD/../target}/tools/kafka-python-2.2.15"
mkdir -p "$(dirname "$tools")"
exec 9>"$tools.lock"
flock 9 # tests run beside each other
if [ ! -e "$tools/complete" ]; then
  rm -rf "$tools"
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check kafka-python==2.2.15
  touch "$tools/complete"
fi
exec 9>&-
exec "$tools/bin/python" kafka_consumer.py "$@"
