#!/usr/bin/env bash
# `ray symmetric-run`, made for the scripts of batch systems, ends with exit code 0 where it could not start Ray and so
# never ran the command that was asked for: SLURM, or `&&`, takes the job for done. A command that fails does pass its
# exit code on.
#
# Version: ray 2.60.0. Seen (an option that `ray start` does not have stands for whatever keeps it from starting):
#   On head node. Starting Ray cluster head...
#   Failed to start Ray: Command '['ray', 'start', '--head', ..., '--no-such-option']' returned non-zero exit status 2.
#   exit code 0, the command ran: no
#
# A port that is taken ends the same way. `ray symmetric-run` ends with `ray stop`, which stops every Ray of the user: a
# wrapper leaves that out here; and it refuses where Ray runs already, so run this where none does.
#
# Exit code 0: still so. 1: it has changed, or Ray runs here.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export HOME="$folder" RAY_TMPDIR="$folder" RAY_USAGE_STATS_ENABLED=0
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "ray==2.60.0"
mkdir "$folder/bin"
printf '#!/bin/sh\n[ "$1" = stop ] || exec "%s" "$@"\n' "$folder/venv/bin/ray" > "$folder/bin/ray"
chmod +x "$folder/bin/ray"
PATH="$folder/bin:$folder/venv/bin:$PATH"
code=0
"$folder/venv/bin/ray" symmetric-run --address 127.0.0.1:26379 --no-such-option -- touch "$folder/ran" > "$folder/said" 2>&1 || code=$?
grep -E "^On head|^Failed to start|already started" "$folder/said" || cat "$folder/said"
ran=no; [ -e "$folder/ran" ] && ran=yes
echo "exit code $code, the command ran: $ran"
[ "$code" = 0 ] && [ "$ran" = no ] && grep -q "^Failed to start Ray" "$folder/said" && echo "still so" || { echo "this has changed"; exit 1; }
