"""Kedro's configuration loader, which reads nothing of a profile before all of it was checked."""

from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader

from gmail_kedro.configuration.profile_checks import check_profile
from gmail_kedro.definitions import FILES

# With ``soft`` a profile or ``conf/local`` sets one key of a group and keeps its siblings; Kedro's default erases them.
LOADER_ARGUMENTS: dict[str, Any] = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": dict.fromkeys(("parameters", "mlflow", *FILES), "soft"),
    "config_patterns": {"mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*"]} | {name: [f"{name}.yml"] for name in FILES},
}


class ProfileLoader(OmegaConfigLoader):
    """As Kedro's own, whose arguments it has; raises what ``check_profile`` does."""

    def __init__(
        self, conf_source: str, env: str | None = None, runtime_params: dict[str, Any] | None = None, **arguments: Any
    ) -> None:
        check_profile(Path(conf_source), env or arguments.get("default_run_env") or "base", runtime_params or {})
        super().__init__(conf_source, env=env, runtime_params=runtime_params, **arguments)
