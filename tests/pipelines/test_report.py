"""The report of a reproduction through the real session, catalog and hooks."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from ..reporting.reproductions import DEFINITIONS, LAWS, PARAMETERS, write_reproduction
from .conftest import make_project


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    folder = make_project(tmp_path_factory.mktemp("reported"), repository)
    write_reproduction(folder / "results")
    shutil.copytree(folder / "results/repro", folder / "data/08_reporting/repro")
    shutil.copytree(folder / "results/sets", folder / "data/02_intermediate")
    (folder / "data/08_reporting/tables").mkdir()
    shutil.copy(folder / "results/tables.parquet", folder / "data/08_reporting/tables")
    (folder / "data/08_reporting/tables/laws.json").write_text(json.dumps(LAWS))
    (folder / "conf/base/tables.yml").write_text(yaml.safe_dump({"tables": DEFINITIONS}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        bootstrap_project(folder)
        with KedroSession.create(project_path=folder, runtime_params={"report": PARAMETERS}) as session:
            session.run(pipeline_names=["report"])
    return folder


@pytest.mark.slow
def test_the_page_and_its_tables_lie_beside_the_results(reported: Path):
    page = (reported / "data/08_reporting/report/report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and "A note on 101." in page
    assert page.count("data:image/webp;base64,") == 2  # the planes and the set's samples
    assert page.count("<svg") == 8  # four of the gap, one of scaling, one of training, two of cost
    assert "## Table 12: Cost" in (reported / "data/08_reporting/report/report.md").read_text(encoding="utf-8")
