#!/usr/bin/env bash
# Resolves every requirement set anew, with hashes and without addresses; dev decides, the others follow.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$(command -v uv || echo .tools/bin/uv)
compile() { "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header "$@"; }
compile pyproject.toml --all-extras --group test --group docs -o requirements/dev.txt
compile pyproject.toml --all-extras -c requirements/dev.txt -o requirements/extras.txt
compile pyproject.toml -c requirements/dev.txt -o requirements/runtime.txt
compile --no-deps requirements/demo.in -c requirements/dev.txt -o requirements/demo.txt
for peer in requirements/peers/*.in; do compile "$peer" -o "${peer%.in}.txt"; done
