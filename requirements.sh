#!/bin/sh
# Stop before any installation if Python, or Java where it is asked for, is missing or too old, and say what to install.
# usage: sh requirements.sh PYTHON [java]
set -eu
python=$1

stop() {
    echo "error: $1" >&2
    echo "  On Debian or Ubuntu: $2" >&2
    exit 1
}

command -v "$python" >/dev/null 2>&1 ||
    stop "Python: found no $python; wanted Python 3.11 or newer." \
        "apt-get install python3 python3-venv, or name another with: make PYTHON=python3.12"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    stop "Python: found $("$python" --version 2>&1); wanted Python 3.11 or newer." \
        "apt-get install python3.11 python3.11-venv, then: make PYTHON=python3.11"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    stop "Python: found $python without venv; wanted the module that makes virtual environments." \
        "apt-get install python3-venv"

[ "${2:-}" = java ] || exit 0
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
command -v "$java" >/dev/null 2>&1 ||
    stop "Java: found no $java; wanted Java 17 or newer, which Spark needs." \
        "apt-get install openjdk-17-jre-headless, or set JAVA_HOME"
found=$("$java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
[ "${found:-0}" -ge 17 ] ||
    stop "Java: found version ${found:-unknown}; wanted Java 17 or newer, which Spark needs." \
        "apt-get install openjdk-17-jre-headless, or set JAVA_HOME"
