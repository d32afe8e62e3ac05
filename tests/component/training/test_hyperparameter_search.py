"""A trial that came to its end counts, also where the budget ended the search with its report."""

from pathlib import Path

from mediscale.core.settings import Settings
from training.hyperparameter_search import CPU_SECONDS, FINISHED, LOSS, Search, _Runs


def test_the_trial_that_used_up_the_budget_is_among_the_tried(tmp_path: Path) -> None:
    """Ray Tune ends a search between a trial's report and its end: `tune-language --minutes 3` printed nothing."""
    search = Search(dataset="ward", key="0" * 16, name="search", trials=3, cpu_minutes=1)
    runs = _Runs(Settings(home=tmp_path), search)
    assert runs.resume() == []
    for rank, finished in ((8, 1), (16, 0)):
        run = runs.begin_trial({"rank": rank})
        runs.log_result(run, {"training_iteration": 1, LOSS: 2.25, FINISHED: finished, CPU_SECONDS: 61.0})
    runs.begin_trial({"rank": 32})
    runs.end()
    (tried,) = runs.trials()
    assert (tried.settings, tried.loss, tried.finished, tried.cpu_seconds) == ({"rank": 8}, 2.25, True, 61.0)
    assert _Runs(Settings(home=tmp_path), search).resume() == [tried], "a search that goes on knows of it"
