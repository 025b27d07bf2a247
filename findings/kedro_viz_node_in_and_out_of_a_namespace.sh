#!/usr/bin/env bash
# kedro-viz 12.5.0 on kedro 1.7.0: it tells nodes apart by a hash of `str(node)`, which leaves the namespace out. So a node
# that is registered twice, in one pipeline with a namespace (to be drawn as one box) and in another without, is one node
# of the built site: in the pipeline with namespaces it stands beside its own box, which stays, and the drawing is as
# long as before. Registered with the namespace alone, the box is all there is. Give the nodes of the one that is only
# looked at names of their own.
#
# Guessed before the run: pipelines are drawn apart, so the one with a namespace is a box between its data. Seen:
#   with the namespace alone: data:first data:second modularPipeline:stage
#   registered both ways:     data:first data:middle data:second modularPipeline:stage task:double task:halve
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" kedro==1.7.0 kedro-viz==12.5.0
export DO_NOT_TRACK=1 PYTHONWARNINGS=ignore
mkdir -p "$work/project/src/drawn" "$work/project/conf/base" "$work/project/conf/local"
cd "$work/project"
cat > pyproject.toml <<'TOML'
[tool.kedro]
package_name = "drawn"
project_name = "drawn"
kedro_init_version = "1.7.0"
source_dir = "src"
TOML
touch src/drawn/__init__.py src/drawn/settings.py conf/base/catalog.yml
cat > src/drawn/pipeline_registry.py <<'PYTHON'
import os

from kedro.pipeline import Node, Pipeline


def double(value):
    return 2 * value


def halve(value):
    return value / 2


def register_pipelines():
    plain = Pipeline([Node(double, "first", "middle", name="double"), Node(halve, "middle", "second", name="halve")])
    boxed = Pipeline(plain, namespace="stage", prefix_datasets_with_namespace=False)
    return {"__default__": boxed, "boxed": boxed} if os.environ["REGISTERED"] == "boxed" else {"__default__": plain, "boxed": boxed}
PYTHON
cat > "$work/drawn.py" <<'PYTHON'
import json
import sys

site = json.load(open("build/api/pipelines/boxed"))
shown = {node["id"]: node for node in site["nodes"]}
root = site["modular_pipelines"]["__root__"]["children"]
print(" ".join(sorted(f"{child['type']}:{shown[child['id']]['name']}" for child in root)))
PYTHON
for registered in boxed both; do
  rm -rf build
  REGISTERED=$registered "$work/env/bin/kedro" viz build > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
  "$work/env/bin/python" "$work/drawn.py" > "$work/$registered"
done
"$work/env/bin/python" -c 'import kedro, kedro_viz; print("kedro", kedro.__version__, "kedro-viz", kedro_viz.__version__)' 2> /dev/null
echo "with the namespace alone: $(cat "$work/boxed")"
echo "registered both ways:     $(cat "$work/both")"
grep -q '^data:first data:second modularPipeline:stage$' "$work/boxed" && grep -q 'task:double' "$work/both" || { echo "changed" >&2; exit 1; }
