"""The runs of the paper's tables in MLflow: which rows they are, their parent, links that compare them in the browser.

A run of the matrix has the run id ``repro/<name>-<seed>``, or ``repro_<profile>/…``: each profile has a reproduction of
its own. Its tags name its tables, so that one filters by them in the browser: ``tags."row.6" LIKE '%'`` are the rows of
table 6.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from gmail_kedro.redaction import redact
from gmail_kedro.tracking.mlflow_store import SQLITE, TRACKING_URI, default_uri, exclusive, wait_shortly

if TYPE_CHECKING:
    from mlflow import MlflowClient

MATRIX_RUN = re.compile(r"(?P<reproduction>repro\w*)/(?P<name>.+)-(?P<seed>\d+)")
REPRODUCTION = "repro"
PARENT = "reproduction"
ADDRESS = "http://127.0.0.1:5000"  # where `make ui` shows the store


class TableLink(NamedTuple):
    """Where the browser compares the runs of one table."""

    table: int
    title: str
    compare: str  # the comparison of all its runs
    filtered: str  # the list of runs, filtered by the table
    run_count: int
    missing: tuple[str, ...]  # names of runs that MLflow does not have


def matrix_tags(run_name: str, definitions: Mapping[int, Mapping[str, Any]]) -> dict[str, str]:
    """Returns the tags of a run of the matrix; none for any other run.

    Args:
        run_name: Such as ``repro/gmail-0``.
        definitions: The tables by number: ``rows`` by name, each with its ``run`` and perhaps its ``seeds``.

    Returns:
        ``reproduction`` (whose it is), ``repro`` (the name), ``seed``, ``tables`` (numbers, comma-separated), and
        ``row.<table>`` with the row's name.

    Example:
        >>> matrix_tags("repro/gmail-0", {6: {"rows": {"with alignment": {"run": "gmail"}}}})
        {'reproduction': 'repro', 'repro': 'gmail', 'seed': '0', 'tables': '6', 'row.6': 'with alignment'}
    """
    match = MATRIX_RUN.fullmatch(run_name)
    if match is None:
        return {}
    rows: dict[int, list[str]] = {}
    for number, row, name, seeds in _rows(definitions):
        if name == match["name"] and (seeds is None or int(match["seed"]) in seeds):
            rows.setdefault(number, []).append(row)
    tags = {"reproduction": match["reproduction"], "repro": match["name"], "seed": match["seed"]}
    tags["tables"] = ",".join(str(number) for number in rows)
    return tags | {f"row.{number}": "; ".join(names) for number, names in rows.items()}


def _rows(definitions: Mapping[int, Mapping[str, Any]]) -> Iterator[tuple[int, str, str | None, Sequence[int] | None]]:
    for number, table in definitions.items():
        for row, content in table["rows"].items():
            yield int(number), row, content.get("run"), content.get("seeds")


def parent_run(client: "MlflowClient", experiment_id: str, uri: str) -> str:
    """Returns the id of the run that the matrix is nested under; it is made once, however many start together."""
    if not uri.startswith(SQLITE):  # no lock reaches the other processes of a server
        return _find_or_make_parent(client, experiment_id)
    database = Path(uri.removeprefix(SQLITE)).absolute()
    with exclusive(database.with_name(f"{database.name}.lock")):
        return _find_or_make_parent(client, experiment_id)


def _find_or_make_parent(client: "MlflowClient", experiment_id: str) -> str:
    found = client.search_runs([experiment_id], filter_string=f"tags.matrix = '{PARENT}'", max_results=1)
    if found:
        return found[0].info.run_id
    run = client.create_run(experiment_id, tags={"matrix": PARENT, "run_name": PARENT}, run_name=PARENT)
    client.set_terminated(run.info.run_id)
    return run.info.run_id


def table_links(
    client: "MlflowClient",
    experiment_id: str,
    definitions: Mapping[int, Mapping[str, Any]],
    *,
    reproduction: str = REPRODUCTION,
) -> list[TableLink]:
    """Returns a link for every table that has two runs or more in the store.

    A run that was repeated counts once, by its newest finished execution.

    Args:
        client: Client of the store.
        experiment_id: The experiment of the runs.
        definitions: See ``matrix_tags``.
        reproduction: Whose runs; each profile's are compared among themselves.
    """
    newest = _newest_runs(client, experiment_id, reproduction)
    experiments = _in_address([experiment_id])
    links = []
    for number, table in definitions.items():
        names = list(dict.fromkeys(name for _, _, name, _ in _rows({number: table}) if name))
        chosen = [run_id for (name, _), run_id in newest.items() if name in names]
        if len(chosen) < 2:
            continue
        filtered = quote(f"tags.\"row.{number}\" LIKE '%' AND tags.reproduction = '{reproduction}'")
        links.append(
            TableLink(
                table=int(number),
                title=table["title"],
                compare=f"{ADDRESS}/#/compare-runs?runs={_in_address(chosen)}&experiments={experiments}",
                filtered=f"{ADDRESS}/#/experiments/{experiment_id}/runs?searchFilter={filtered}",
                run_count=len(chosen),
                missing=tuple(name for name in names if name not in {known for known, _ in newest}),
            )
        )
    return links


def _in_address(ids: Sequence[str]) -> str:
    return quote(json.dumps(list(ids), separators=(",", ":")))


def _newest_runs(client: "MlflowClient", experiment_id: str, reproduction: str) -> dict[tuple[str, str], str]:
    """Returns the id of the newest finished run by name and seed."""
    newest: dict[tuple[str, str], str] = {}
    token = None
    while True:  # a page has a thousand runs at most
        page = client.search_runs(
            [experiment_id],
            filter_string=f"tags.reproduction = '{reproduction}' AND attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        for run in page:
            newest.setdefault((run.data.tags["repro"], run.data.tags["seed"]), run.info.run_id)
        token = page.token
        if not token:
            return dict(sorted(newest.items()))


def project_links(
    project: Path, experiment: str, definitions: Mapping[int, Mapping[str, Any]], *, reproduction: str = REPRODUCTION
) -> str:
    """Returns the links of a project's store, as ``links_text`` writes them; see ``table_links``.

    Raises:
        ValueError: If the store has no such experiment.
    """
    from mlflow import MlflowClient

    wait_shortly()
    uri = os.environ.get(TRACKING_URI, default_uri(project))
    client = MlflowClient(tracking_uri=uri)
    stored = client.get_experiment_by_name(experiment)
    if stored is None:
        raise ValueError(
            f"The MLflow store {redact(uri)} has no experiment {experiment!r}. Run the reproduction, or set "
            "MLFLOW_TRACKING_URI to the store that has it."
        )
    return links_text(table_links(client, stored.experiment_id, definitions, reproduction=reproduction))


def links_text(links: Sequence[TableLink]) -> str:
    """Returns the links as lines for a terminal."""
    if not links:
        return "MLflow has no two finished runs of one table yet. Run the reproduction: dvc repro\n"
    lines = ["Start MLflow with `make ui`; these open the runs of a table side by side:", ""]
    for link in links:
        missing = f", not in MLflow: {', '.join(link.missing)}" if link.missing else ""
        lines += [f"Table {link.table}, {link.title} ({link.run_count} runs{missing})"]
        lines += [f"  compare  {link.compare}", f"  list     {link.filtered}"]
    return "\n".join(lines) + "\n"
