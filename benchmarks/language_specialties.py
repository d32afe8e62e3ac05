"""Specialty bias: a language model that was fine-tuned on neurology alone, asked about neurology and nephrology.

The share of statements that nothing supports, with n and 95 % interval, by specialty, with and without the passages
that a search finds before the question. The questions are all held-out short ones; nothing is chosen on them.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from language_training import LocalJob, local_job  # type: ignore[import-not-found] # beside this script

from data_pipeline.documents import corpus, questions
from mediscale.core.settings import Settings
from mediscale.inference import base_models, language_version
from mediscale.inference.model_files import ADAPTER_CONFIG_FILE, ADAPTER_FILE
from mediscale.report import charts
from training.language import corpus_sources, language_measures, language_training

TAUGHT = "neurology"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--answers", type=int, default=200, help="written at most, of each kind")
    options = parser.parse_args()
    splits = questions.prepare(corpus.questions()).splits
    LocalJob.kept = {
        split: [question for question in of if question.specialty == TAUGHT] for split, of in splits.items()
    }
    folder = Path(tempfile.mkdtemp(prefix="mediscale-bench-"))
    settings, home = Settings(), Settings(home=folder)
    files = base_models.folder(settings, base_models.resolve(base_models.OFFLINE))
    effort = language_measures.Effort(max_generated=options.answers, max_tokens=32, bootstrap=2000, seed=0)
    try:
        fitted = language_training.on_ray(
            home, local_job(files, folder / "job", options.epochs), 1, "specialties"
        )
        config, weights = (
            (fitted.adapter / name).read_bytes() for name in (ADAPTER_CONFIG_FILE, ADAPTER_FILE)
        )
        model = language_version.adapted(files, config, weights)
        with corpus_sources.opened(settings, splits["held_out"]) as sources:
            measures = language_measures.measure(model, splits["held_out"], effort, sources)
    finally:
        shutil.rmtree(folder)
    print(f"{base_models.OFFLINE}, fine-tuned on {len(LocalJob.kept['train'])} questions on {TAUGHT}")
    assert measures.grounding is not None
    for cell in measures.grounding.cells:
        share, how = cell.unsupported, "with" if cell.retrieval else "without"
        assert share.value is not None
        shown = charts.share(share).replace("\u00a0", " ")
        print(f"{cell.specialty}, {how} retrieval: {shown} of {cell.n} sentences of {cell.families} families")
        print(
            f"figure: unsupported statements in {cell.specialty} {how} retrieval, % = {100 * share.value:.0f}"
        )


if __name__ == "__main__":
    main()
