"""What a run needs and has not got: said before its first node."""

import pytest
from kedro.io import CachedDataset, DataCatalog, DatasetError
from kedro.pipeline import Pipeline, node
from kedro_datasets.json import JSONDataset

from gmail_kedro.datasets.corpus import CorpusDataset
from gmail_kedro.hooks.input_hooks import refuse_missing, refuse_writing_own_corpus


def same(*given: object) -> object:
    return given


def stored(folder, *names):
    return DataCatalog({name: JSONDataset(filepath=str(folder / f"{name}.json")) for name in names})


def test_the_default_pipeline_beside_ones_own_real_images_is_refused_with_the_one_that_works(tmp_path):
    real_images = CorpusDataset(name="own", layout="folder", images=str(tmp_path))
    makes_a_world = Pipeline([node(same, None, "corpus")])
    with pytest.raises(DatasetError, match="'own' .* is read-only.*run the rest of the default: --pipelines=gmail"):
        refuse_writing_own_corpus(makes_a_world, DataCatalog({"corpus": CachedDataset(real_images)}))
    refuse_writing_own_corpus(Pipeline([node(same, "corpus", "out")]), DataCatalog({"corpus": real_images}))
    refuse_writing_own_corpus(makes_a_world, stored(tmp_path, "corpus"))


def test_a_baseline_that_was_not_run_is_refused_with_the_pipeline_that_makes_it(tmp_path):
    compares = Pipeline([node(same, ["scores", "baseline_scores"], "comparison")])
    registered = {"evaluation": Pipeline([node(same, None, "scores")]), "comparison": compares}
    catalog = stored(tmp_path, "scores", "baseline_scores")
    catalog["scores"].save({})
    with pytest.raises(FileNotFoundError) as error:
        refuse_missing(compares, catalog, registered)
    assert str(error.value) == (
        f"What the run needs is not there: baseline_scores ({tmp_path / 'baseline_scores.json'}). Make it first, with "
        "the same --env and --params (what is the baseline's: with its name as run_id): kedro run --pipeline=evaluation"
    )
    catalog["baseline_scores"].save({})
    refuse_missing(compares, catalog, registered)
