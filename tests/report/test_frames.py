"""A run as data frames, of fake runs whose figures are known."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fcdd_sweep import Run
from fcdd_sweep.config.errors import InputError
from fcdd_sweep.report.aggregate import aggregate
from fcdd_sweep.results import files, schemas
from fcdd_sweep.results.comparison_schemas import PUBLISHED
from fcdd_sweep.results.tree import RunPaths, TrialPaths
from tests import searches
from tests.fakes import EXPERIMENT, FakeRun, small_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def walls(tmp_path_factory):
    """AUROCs 1, .95, .9 of brick and .8, .75 of metal nut, whose third seed failed."""
    return small_run(tmp_path_factory.mktemp("runs") / "walls").write()


def configs_run(path, aurocs, seeds=(0,)):
    """A run of configs with these validation AUROCs by name; None: a trial without one."""
    rates = {name: {"training.learning_rate": 10.0**-i} for i, name in enumerate(aurocs)}
    run = FakeRun(path).plan(["brick"], seeds, rates)
    for name, values in aurocs.items():
        for seed, value in zip(seeds, values, strict=True):
            run.finish(name, "brick", seed, wrong=len(name))
            row = TrialPaths(path / name / "normal_brick" / f"it_{seed}").metrics
            (metrics,) = files.read_rows(row, schemas.METRICS)
            source = "validation: 8 held-out nominal images"
            files.write_rows(
                row, [metrics | {"validation_image_auroc": value, "selection_source": source}], schemas.METRICS
            )
    return Run(run.write())


def test_trials_have_a_row_for_every_planned_trial(walls):
    trials = Run(walls).trials()
    assert isinstance(trials, pd.DataFrame) and list(trials.columns) == schemas.trials_schema({}).names
    assert trials.status.tolist() == ["done"] * 5 + ["failed"]
    np.testing.assert_allclose(trials.image_auroc, [1, 0.95, 0.9, 0.8, 0.75, np.nan])


def test_scores_have_a_row_for_every_image_with_the_key_of_its_trial(walls):
    scores = Run(walls).scores()
    assert len(scores) == 5 * 51 and set(schemas.SCORES.names) | {"config", "normal_class", "seed"} == set(scores)
    nut = scores[(scores.normal_class == "metal nut") & (scores.split == "test")]
    assert sorted(nut.seed.unique()) == [0, 1]
    worst = nut[(nut.seed == 0) & (nut.label == 1)].score.nsmallest(5)
    assert (worst.iloc[:4] < 0.1).all() and worst.iloc[4] > 0.5


def test_scores_follow_the_score_of_images_that_the_experiment_names_now(tmp_path):
    run = small_run(tmp_path / "walls")
    text = EXPERIMENT + "evaluation: {image_score: max}\n"
    RunPaths(run.path).experiment.write_text(text)
    scores = Run(run.write()).scores()
    np.testing.assert_allclose(scores.score, scores.score_max)
    assert not np.allclose(scores.score, scores.score_mean)


def test_the_summary_has_means_and_intervals(walls):
    summary = Run(str(walls)).summary()
    assert summary.normal_class.tolist() == ["brick", "metal nut", ""]
    np.testing.assert_allclose(summary.image_auroc_mean, [0.95, 0.775, 0.8625])
    assert summary.failed.tolist() == [0, 1, 1]


def test_the_best_config_is_chosen_on_selection_data(tmp_path):
    run = configs_run(tmp_path / "rates", {"aaaa": [0.7, 0.8], "bb": [0.9, 0.7], "c": [0.99, None]}, (0, 1))
    (best,) = run.best().to_dict("records")
    assert best == {
        "config": "bb",
        "metric": "validation_image_auroc",
        "value": pytest.approx(0.8),
        "selected_on": "validation: 8 held-out nominal images",
        "n_configs": 2,  # that of one trial without the metric does not take part
        "param.training.learning_rate": 0.1,
    }
    (oracle,) = run.best("image_auroc").to_dict("records")
    assert oracle["config"] == "c" and oracle["value"] == pytest.approx(0.95) and "oracle" in oracle["selected_on"]


@pytest.mark.usefixtures("without_report")
def test_the_best_config_of_a_search_is_its_own_choice(tmp_path):
    experiment = searches.load(tmp_path, "search.budget.configs=4")
    searches.go(experiment)
    summary, rows = searches.summary(experiment), searches.table(experiment)
    (chosen,) = [row for row in rows if row["number"] == summary["best"]]
    (best,) = Run(experiment.run_dir).best().to_dict("records")
    assert best["value"] == chosen["value"] == max(row["value"] for row in rows) and best["n_configs"] == 4
    for name in ("config", "param.training.learning_rate", "param.anomalies.limit"):
        assert str(best[name]) == str(chosen[name])
    assert best["selected_on"] == summary["selection_source"] and best["metric"] == "validation_image_auroc"


def test_without_selection_data_no_config_is_chosen_in_silence(tmp_path):
    run = configs_run(tmp_path / "rates", {"aaaa": [None], "bb": [None]})
    with pytest.raises(InputError, match="no trial has validation_image_auroc. Set evaluation.validation.anomalies"):
        run.best()
    with pytest.raises(InputError, match="there is no metric 'image_auc'.*Closest: 'image_auroc'"):
        run.best("image_auc")
    with pytest.raises(InputError, match="no trial is done yet"):
        Run(FakeRun(tmp_path / "new").plan(["brick"], [0], {"a": {}, "b": {}}).write()).best()


def test_the_tables_of_statistics_are_those_that_the_report_writes(tmp_path):
    run = FakeRun(tmp_path / "grid").plan(
        ["brick"], [0, 1, 2], {"a": {"training.epochs": 1}, "b": {"training.epochs": 2}}
    )
    for seed in range(3):
        run.finish("a", "brick", seed, wrong=seed).finish("b", "brick", seed, wrong=10 + 2 * seed)
    path = run.write()
    frames = Run(path)
    found = frames.comparisons()
    aggregate(path)
    pd.testing.assert_frame_equal(found, files.read_table(RunPaths(path).comparisons).to_pandas())
    (row,) = found[(found.metric == "image_auroc") & (found.test == "paired_t")].to_dict("records")
    assert row["estimate"] == pytest.approx(0.95 - 0.4) and row["better"] == "a"
    assert frames.headline().startswith("Epochs 1 is better than the other config: image AUROC of brick 0.950, 95%")
    assert frames.published().empty and list(frames.published()) == PUBLISHED.names
    defects = frames.defects()
    assert set(schemas.DEFECTS.names) | {"config", "normal_class", "seed"} == set(defects) and len(defects) == 3 * 2 * 2
    own = defects[(defects.config == "a") & (defects.seed == 0)]
    assert own.image_auroc.tolist() == [1.0, 1.0] and sorted(own.defect) == ["hole", "stain"]


def test_of_one_config_there_is_nothing_to_choose(walls):
    (best,) = Run(walls).best().to_dict("records")
    assert (best["config"], best["n_configs"]) == ("", 1) and best["selected_on"] == "nothing: the run has one config"
    with pytest.raises(
        InputError, match="no config has image_auroc in all of its trials: class 'metal nut' has 2 of 3"
    ):
        Run(walls).best("image_auroc")


def test_a_run_is_shown_with_its_counts_its_gaps_and_its_means(walls):
    run = Run(walls)
    page = run._repr_html_()
    assert repr(run) == f"Run('{walls}')"
    assert "6 planned, 5 done, 1 failed, 0 missing" in page and "2 of 3 seeds (1 failed)" in page
    assert ">0.950 ± 0.050 (n=3)</td>" in page and "mean over classes" in page


def test_a_run_that_has_not_begun_has_empty_frames(tmp_path):
    run = Run(FakeRun(tmp_path / "new").plan(["brick"], [0, 1]).write())
    assert run.trials().status.tolist() == ["missing", "missing"] and len(run.scores()) == 0
    assert "2 planned, 0 done" in run._repr_html_() and run.summary().done.tolist() == [0]


def test_a_folder_that_is_no_run_is_an_error_that_names_the_nearest(walls):
    with pytest.raises(InputError, match=f"wall: is not a run directory.*Closest: '{walls}'"):
        Run(walls.with_name("wall"))


def test_without_pandas_frames_are_tables_and_torch_is_never_loaded(walls):
    program = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pandas", "torch", "ray", "optuna"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
from fcdd_sweep import Run
run = Run({str(walls)!r})
print(type(run.trials()).__module__, run.scores().num_rows, run.summary().num_rows, run.best().num_rows)
run._repr_html_()
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == [pa.Table.__module__, "255", "3", "1"]
