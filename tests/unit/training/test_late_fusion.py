"""Whether notes add to the table, by permutation: notes that add nothing seldom pass, however they hang together."""

import numpy as np
import pytest

from training import late_fusion
from training.late_fusion import Answers
from training.training_examples import Examples

PATIENTS, HOSPITALS = 150, 40


def answers(seed: int, rows_each: int, signal: float) -> Answers:
    """Patients with as many rows each, whose notes repeat the table, tell the outcome by ``signal``, and are noise."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(PATIENTS), rows_each)
    outcome = (rng.random(PATIENTS) < 0.25).astype(float)
    table = rng.normal(size=PATIENTS) + 1.5 * outcome - 2
    notes = 0.5 * table + rng.normal(size=PATIENTS) + signal * outcome
    times = np.zeros(len(patient), "datetime64[us]")
    subjects = rng.permutation(PATIENTS)[patient] << 20
    rows = Examples(subjects, times, outcome[patient], np.zeros((len(patient), 0), np.float32), {}, times)
    return Answers(rows, table[patient], notes[patient])


def p_value(of: Answers) -> float:
    loss = late_fusion._loss(of, late_fusion._crossed(of, late_fusion._together))
    return late_fusion.permutation_p_value(of, loss)


@pytest.mark.parametrize("rows_each", [1, 6])
def test_notes_that_repeat_the_table_seldom_pass_and_those_that_tell_more_do(
    monkeypatch: pytest.MonkeyPatch, rows_each: int
) -> None:
    """Rows of one patient are alike: dealt out one by one, they would make nearly any notes pass."""
    monkeypatch.setattr(late_fusion, "_PERMUTATIONS", 19)
    passed = {
        signal: np.mean(
            [
                p_value(answers(seed, rows_each, signal)) <= late_fusion.SIGNIFICANCE
                for seed in range(HOSPITALS)
            ]
        )
        for signal in (0.0, 1.5)
    }
    assert passed[0.0] <= 0.15  # 6 of 40 at 5 % each: once in 70 such tests
    assert passed[1.5] >= 0.9


def test_a_patients_rows_get_those_of_one_other_patient_in_their_order() -> None:
    subjects = np.array([7, 3, 7, 5, 3, 7])
    drawn = late_fusion._of_other_patients(subjects, np.random.default_rng(1))
    for subject in np.unique(subjects):
        of = drawn[subjects == subject]
        assert len(set(subjects[of])) == 1
        assert list(of) == sorted(of)
