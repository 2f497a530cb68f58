"""What starts before the data is prepared, and what it takes a start for that has nothing to run."""

from fcdd_sweep.results import files, schemas
from fcdd_sweep.results.tree import RunPaths
from fcdd_sweep.runners.trial_result import TrialResult
from fcdd_sweep.sweep.early_start import count_to_run
from fcdd_sweep.sweep.ledger import Ledger
from tests.specs import spec


def test_trials_that_the_index_does_not_list_as_done_are_to_run(tmp_path):
    specs = [spec(seed=seed) for seed in range(4)]
    assert count_to_run(tmp_path, specs) == 4
    ledger = Ledger(tmp_path)
    ledger.fail(specs[0], TrialResult.failure(specs[0].trial_id, "error", "no"))
    ledger.save()
    rows = files.read_table(RunPaths(tmp_path).index).to_pylist()
    done = rows[0] | {"trial_id": specs[1].trial_id, "status": "done"}
    files.write_rows(RunPaths(tmp_path).index, [*rows, done], schemas.INDEX)
    assert count_to_run(tmp_path, specs) == 3
    RunPaths(tmp_path).index.write_bytes(b"damaged")
    assert count_to_run(tmp_path, specs) == 4
