"""The table of a class's decisions, one row per trial."""

from fcdd_sweep.report.class_scores import CONFUSION
from fcdd_sweep.report.page import class_section
from fcdd_sweep.report.page.decision_table import decision_table
from fcdd_sweep.report.run_files import Trial, read_run
from fcdd_sweep.report.tables import SUMMARY_CSV, summary_markdown, write_tables
from fcdd_sweep.results.documents import TrialStatus
from tests.fakes import FakeRun, csv_rows
from tests.report.page.test_page import Page

DECIDED = dict(zip(CONFUSION, (18, 3, 27, 2), strict=True)) | {
    "accuracy": 0.9,
    "precision": 18 / 21,
    "recall": 0.9,
    "f1": 36 / 41,
    "test_false_alarm_rate": 0.1,
    "test_false_alarm_low": 0.035,
    "test_false_alarm_high": 0.256,
    "fpr_at_95_recall": 0.2,
    "test_agreement": 0.84,
}


def trial(seed, metrics, status=TrialStatus.DONE):
    return Trial({"seed": seed}, status, metrics=metrics)


def test_a_row_has_counts_shares_the_interval_and_the_agreement():
    undecided = {"fpr_at_95_recall": 0.5}
    trials = [trial(0, DECIDED), trial(1, undecided), trial(2, {}, TrialStatus.FAILED)]
    head, first, second = Page(decision_table(trials)).rows
    assert head[:5] == ["trial", "TP", "FP", "TN", "FN"]
    assert head[5:9] == ["accuracy", "precision", "recall", "F1"]
    assert head[9:] == ["false alarms", "FPR at 95% recall", "agree"]
    assert first[:9] == ["seed\xa00", "18", "3", "27", "2", "0.900", "0.857", "0.900", "0.878"]
    assert first[9:] == ["0.100[0.035, 0.256]", "0.200", "0.840"]
    assert second[:11] == ["seed\xa01", *["n/a"] * 9, "0.500"] and second[11].startswith("n/a")


def test_there_is_no_table_without_a_decision():
    assert decision_table([trial(0, {"fpr_at_95_recall": 0.5})]) == ""


def test_many_trials_are_folded_and_of_very_many_the_first_are_listed():
    few, many = (decision_table([trial(seed, DECIDED) for seed in range(count)]) for count in (3, 70))
    assert "<details" not in few and many.startswith("<details") and "Decisions by seed, 50 trials" in many
    assert len(Page(many).rows) == 1 + 50 and "And 20 more trials, see trials.parquet." in many


def test_each_class_of_a_page_has_the_table(tmp_path):
    made = FakeRun(tmp_path / "r").plan(["brick"], [0, 1])
    for seed in (0, 1):
        made.finish("", "brick", seed, wrong=seed, threshold=0.45)
    run = read_run(made.write())
    rows = Page(class_section.class_details(run, "", {}, [])).rows
    assert [row[0] for row in rows if len(row) == 12] == ["trial", "seed\xa00", "seed\xa01"]


def test_means_of_decisions_are_in_the_summaries(tmp_path):
    made = FakeRun(tmp_path / "r").plan(["brick"], [0, 1])
    for seed in (0, 1):
        made.finish("", "brick", seed, wrong=2 * seed, threshold=0.45)
    run = read_run(made.write())
    assert (
        "| class | accuracy | precision | recall | FPR at 95% recall | label and heatmap agree |"
        in summary_markdown(run)
    )
    write_tables(run)
    (row,) = csv_rows(run.path / SUMMARY_CSV)
    assert float(row["recall_mean"]) == 0.95 and float(row["test_agreement_mean"]) == 0.75
    assert row["accuracy_n"] == "2" and row["fpr_at_95_recall_std"] == "0"
