"""Project settings of Kedro: how configuration is merged, and which hooks run.

``merge_strategy: soft`` lets an environment or ``conf/local`` set one key of a group and keep its siblings;
Kedro's default would erase them.
"""

from gmail_kedro.hooks import StoreHooks, TrackingHooks

HOOKS = (StoreHooks(), TrackingHooks())

CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": {"parameters": "soft", "mlflow": "soft"},
    "config_patterns": {"mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*"]},
}
