"""Project settings of Kedro: how configuration is merged, and which hooks run.

``merge_strategy: soft`` lets an environment or ``conf/local`` set one key of a group and keep its siblings;
Kedro's default would erase them.
"""

import os
import warnings

from gmail_kedro.definitions import FILES
from gmail_kedro.hooks import CatalogHooks, ClassSetHooks, ModelHooks, StoreHooks, SummaryHooks, TrackingHooks
from gmail_kedro.run_hooks import CheckpointHooks, RunLockHooks, StudentHooks

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when MLflow is imported, which is later

# OmegaConf says it to Kedro at every start; nothing that a user of this project can act on.
warnings.filterwarnings("ignore", r"register_new_resolver\(\) is deprecated")

HOOKS = (
    RunLockHooks(),  # the first of all, see there
    CatalogHooks(),
    StoreHooks(),
    ModelHooks(),
    ClassSetHooks(),
    StudentHooks(),
    TrackingHooks(),
    SummaryHooks(),
    CheckpointHooks(),
)

CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": dict.fromkeys(("parameters", "mlflow", *FILES), "soft"),
    "config_patterns": {"mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*"]} | {name: [f"{name}.yml"] for name in FILES},
}
