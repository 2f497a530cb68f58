"""One way to run any experiment."""

from __future__ import annotations

import pytest

from fcdd_sweep.planning.plan import plan
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.run import run_experiment
from tests import searches, works

pytestmark = [pytest.mark.usefixtures("without_report"), pytest.mark.slow]


@pytest.mark.parametrize("planned", [False, True], ids=["experiment", "plan"])
def test_an_experiment_with_a_search_is_searched_and_one_without_is_swept(tmp_path, planned):
    of = plan if planned else lambda experiment: experiment
    searched = searches.load(tmp_path, "search.budget.configs=2", output="searched")
    assert run_experiment(of(searched), local=True, work=works.scored).missing == 0
    assert RunPaths(searched.run_dir).search.summary.is_file()
    swept = searches.load(tmp_path, "search=null", output="swept")
    assert run_experiment(of(swept), local=True, work=works.scored).done == 4
    assert not RunPaths(swept.run_dir).search.root.exists()
