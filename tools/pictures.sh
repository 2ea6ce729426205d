#!/usr/bin/env bash
# Takes the README's pictures of the UI and of the report from a trace, in a headless Chromium.
#
#     tools/pictures.sh out/demo.pftrace
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
trace=${1:?the trace}
export PYTHONPATH=$PWD
shoot() { .venv/bin/python tools/screenshot.py "$trace" "$@"; }

mkdir -p docs/pictures
shoot docs/pictures/ui.png --as-it-opens --height 1000 --details 220
shoot docs/pictures/operators.png --as-it-opens --height 900 --details 250 --margin 60 \
    --select-sql "SELECT id FROM slice WHERE category = 'operator' AND name = 'attn_norm-8'
                  ORDER BY ts LIMIT 1 OFFSET 40"

# The top of the report.
page=$(mktemp --suffix .html)
trap 'rm -f "$page"' EXIT
.venv/bin/profinfer report "$trace" --force -o "$page"
"$(command -v chromium || command -v chromium-browser || command -v google-chrome)" --headless \
    --no-sandbox --disable-gpu --disable-background-networking --hide-scrollbars \
    --window-size=1280,1000 --screenshot=docs/pictures/report.png "file://$page"
