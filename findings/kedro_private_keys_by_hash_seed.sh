#!/usr/bin/env bash
# kedro 1.7.0: a key that stands in two catalog files of one environment is refused by name, except when it begins with
# "_" (the form of variables for interpolation). Then the files are merged in the order of a set, which changes with the
# hash seed: every process that leaves PYTHONHASHSEED alone draws which of the two values all entries get.
#
# Guessed before the run: refused like other keys, or the file that sorts last wins. Seen (hash seeds 0 to 15):
#   a key `run` in two files: refused
#   a key `_run` in two files: the first file in 11 processes, the second in 5
set -euo pipefail
export PYTHONWARNINGS=ignore
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check kedro==1.7.0
mkdir -p "$work/plain/base" "$work/plain/local" "$work/private/base" "$work/private/local"
for key in run _run; do
  folder=$work/plain/base; [ "$key" = _run ] && folder=$work/private/base
  printf '%s: one\nitem:\n  type: pickle.PickleDataset\n  filepath: data/${%s}/item\n' "$key" "$key" > "$folder/catalog.yml"
  printf '%s: two\n' "$key" > "$folder/catalog_more.yml"
done
cat > "$work/read.py" <<'PYTHON'
import sys

from kedro.config import OmegaConfigLoader

try:
    print(OmegaConfigLoader(sys.argv[1], base_env="base", default_run_env="local")["catalog"]["item"]["filepath"])
except ValueError as error:
    print("refused" if "Duplicate keys" in str(error) else error)
PYTHON
"$work/env/bin/python" -c 'import kedro; print("kedro", kedro.__version__)'
plain=$("$work/env/bin/python" "$work/read.py" "$work/plain")
echo "a key run in two files: $plain"
for seed in $(seq 0 15); do PYTHONHASHSEED=$seed "$work/env/bin/python" "$work/read.py" "$work/private"; done | sort | uniq -c | tee "$work/seen"
[ "$plain" = refused ] && [ "$(wc -l < "$work/seen")" = 2 ] || { echo "changed: the order no longer hangs on the seed" >&2; exit 1; }
