#!/usr/bin/env bash
# The Autobahn test suite against the program's WebSocket server, on tokio, and its client, on smol.
#
#   cargo build --bin getty
#   tests/autobahn.sh target/debug/getty
#
# All sections but those on compression: 1 to 7, 9 and 10. Their runner, kosoku, is installed into
# target/autobahn, and the reports are left there.
# Skipped without Python 3.10 or if kosoku cannot be installed.
set -euo pipefail
getty=$(realpath -e "${1:?the path of the program getty}")
cd "$(dirname "$0")/.."
mkdir -p target/autobahn
cd target/autobahn
rm -rf server client

skip() {
    echo "skipped: $*" >&2
    exit 0
}

python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || skip "the Autobahn suite needs Python 3.10"
if ! venv/bin/kosoku --help >/dev/null 2>&1; then
    python3 -m venv --clear venv &&
        venv/bin/pip install -q --no-cache-dir --only-binary :all: kosoku==0.1.0 ||
        skip "kosoku, which runs the Autobahn suite, cannot be installed"
fi
suite=(timeout 300 venv/bin/kosoku -x '12.*' -x '13.*')

servers=()
trap 'kill "${servers[@]}" 2>/dev/null || true' EXIT

# Starts a server whose first line ends with its URL. What it prints after that comes from descriptor 3.
start() {
    exec 3< <(exec "$@" 2>&1)
    servers+=($!)
    read -r line <&3 || true
    url=${line##* }
    url=${url%/}
    [[ $url == ws://* ]] || { echo "$1 does not serve: $line" && exit 1; } >&2
}

# Fails unless all cases ran and went as they should; lists those that went otherwise.
check() {
    [ -e "$1/index.json" ] || { cat "$1.log" && exit 1; } >&2
    python3 - "$1" <<'PY'
import collections, json, sys
role = sys.argv[1]
[cases] = json.load(open(f"{role}/index.json")).values()
results = collections.Counter(case["behavior"] for case in cases.values())
print(f"{role}: {len(cases)} cases,", ", ".join(f"{n} {result}" for result, n in results.items()))
bad = {name: case for name, case in cases.items()
       if not {case["behavior"], case["behaviorClose"]} <= {"OK", "INFORMATIONAL"}}
for name, case in bad.items():
    print(f"  {name} {case['behavior']}, close {case['behaviorClose']}")
if bad or results != {"OK": 298, "INFORMATIONAL": 3}:
    sys.exit(f"{role}: 301 cases were expected, 298 OK and 3 INFORMATIONAL")
PY
}

start "$getty" serve --runtime tokio ws://127.0.0.1:0
"${suite[@]}" -m fuzzingclient -p 4 -o server "$url" >server.log 2>&1 || true
check server

start "${suite[@]}" -m fuzzingserver -o client 127.0.0.1:0
connect=("$getty" connect --echo --runtime smol)
# The program fails when a case breaks the protocol, and at the end, when the suite sends no close frame.
{
    seq 301 | xargs -P 4 -I N "${connect[@]}" "$url/runCase?case=N&agent=getty" || true
    "${connect[@]}" "$url/updateReports?agent=getty" || true
} 2>client.log
cat <&3 >>client.log
check client
