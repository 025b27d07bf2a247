"""Project settings of Kedro: what reads the configuration, and which hooks run."""

import os
import warnings

from gmail_kedro.configuration.loader import LOADER_ARGUMENTS, ProfileLoader
from gmail_kedro.hooks.catalog_hooks import CatalogHooks
from gmail_kedro.hooks.input_hooks import InputHooks
from gmail_kedro.hooks.run_hooks import CheckpointHooks, RunLockHooks
from gmail_kedro.hooks.tracking_hooks import TrackingHooks

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when MLflow is imported, which is later

# OmegaConf says it to Kedro at every start; nothing that a user of this project can act on.
warnings.filterwarnings("ignore", r"register_new_resolver\(\) is deprecated")

# pluggy calls the last one registered first. Of those that come first: refuse, fill in the catalog, then take the lock.
HOOKS = (RunLockHooks(), CatalogHooks(), InputHooks(), TrackingHooks(), CheckpointHooks())

# TrackingHooks calls them. Its metadata spell the name one way, the registry the other.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow", "kedro-mlflow")

CONFIG_LOADER_CLASS = ProfileLoader
CONFIG_LOADER_ARGS = LOADER_ARGUMENTS
