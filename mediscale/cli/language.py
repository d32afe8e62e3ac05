"""Verbs for language models: what a version is worth on questions of one's own, and its other forms."""

import argparse
import sys
from typing import TYPE_CHECKING

from mediscale.cli.verbs import Verb, add_config, add_version, config_of, count, path, settings, version_of

if TYPE_CHECKING:
    from training.language.export.receipts import Receipt


_VERSION = "a registered version, e.g. clinical-questions-language/1"


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    add_version(parser, _VERSION)
    parser.add_argument("--test", type=path, required=True, help="JSONL or CSV of questions with answers")
    parser.add_argument("--output", type=path, required=True, help="JSON file to write")
    parser.add_argument(
        "--max-generated", type=count, default=24, help="how many questions are answered in words (24)"
    )
    parser.add_argument("--max-tokens", type=count, default=32, help="length of such an answer (32)")


def _evaluate(options: argparse.Namespace) -> int:
    from rich.console import Console

    from data_pipeline.documents import questions
    from mediscale.cli import summary
    from mediscale.core import logs
    from mediscale.inference import language_version, model_files
    from training.language import corpus_sources, language_measures, language_model

    home = settings()
    model = language_model.find_version(home, *version_of(options))
    test = questions.read(options.test)
    effort = language_measures.Effort(
        max_generated=options.max_generated, max_tokens=options.max_tokens, bootstrap=1000, seed=0
    )
    with logs.handled_by(logs.to_standard_error()):
        loaded = language_version.load(home, model_files.read_verified(home, model))
        with corpus_sources.opened(home, test) as sources:
            measures = language_measures.measure(loaded, test, effort, sources)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(measures.model_dump_json(indent=1))
    width = None if sys.stdout.isatty() else summary.PIPE_WIDTH
    title = f"{model} beside its base on the {len(test)} questions of {options.test.name}"
    Console(highlight=False, soft_wrap=True, width=width).print(summary.language_table(title, measures))
    return 0


def _add_export(parser: argparse.ArgumentParser) -> None:
    from training.language.export import NAMES

    add_version(parser, _VERSION)
    parser.add_argument(
        "--format", action="append", required=True, choices=NAMES, help="a form to write; repeat for several"
    )
    parser.add_argument("--output", type=path, required=True, help="folder to write the forms into")
    parser.add_argument(
        "--repository",
        default="",
        metavar="OWNER/NAME",
        help="repository of the hub, for --format hub; created as a private one if it does not exist",
    )


def _export(options: argparse.Namespace) -> int:
    from mediscale.core import logs
    from mediscale.core.errors import QualityError
    from training.language import language_model
    from training.language.export import receipts

    home = settings()
    model = language_model.find_version(home, *version_of(options))
    names = list(dict.fromkeys(options.format))
    blocked = 0
    with logs.handled_by(logs.to_standard_error()):
        for receipt in receipts.export(home, model, names, options.output, options.repository):
            blocked += bool(receipt.problems)
            print(f"{receipt.format}: {_line(receipt)}", flush=True)
    return QualityError.exit_code if blocked else 0


def _line(receipt: "Receipt") -> str:
    if receipt.problems:
        return f"blocked: {'; '.join(receipt.problems)}"
    compared = receipt.compared
    if compared is None:
        return f"written, not compared: {receipt.needs}"
    return (
        f"{receipt.size / 1e6:,.1f} MB, read back by {receipt.runtime}: log-likelihoods within "
        f"{compared.largest_difference:.4f} per token of its parent's on {compared.n_likelihoods} answers, "
        f"{compared.same_answers} of {compared.n_answers} written answers the same"
    )


def _add_tune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset",
        default="clinical-questions",
        help="the dataset whose questions are used (clinical-questions)",
    )
    parser.add_argument("--trials", type=count, default=8, help="trials, at most (8)")
    parser.add_argument(
        "--minutes", type=float, default=60, help="minutes of CPU, after which no trial starts (60)"
    )
    add_config(parser)


def _tune(options: argparse.Namespace) -> int:
    from mediscale.core import logs
    from mediscale.core.errors import QualityError
    from mediscale.core.tables import QUESTIONS
    from mediscale.pipeline import call
    from mediscale.storage import calls, lake
    from training.language import language_model, language_tuning

    home, config = settings(), config_of(options.set)
    call.check(config, "language")
    values = {"dataset": options.dataset, **config.get("language_model", {})}
    (context,) = language_model.runtime_inputs(values, home)
    questions = lake.latest(home, options.dataset, QUESTIONS.name)
    params = language_model.Params.model_validate({**values, **context.params, "questions": questions})
    with logs.handled_by(logs.to_standard_error()):
        tried = language_tuning.search(
            home, params, calls.new_run_id("tune"), options.trials, options.minutes
        )
    if not tried:
        raise QualityError("No trial came to its end within --minutes of CPU; give the search more of them.")
    for trial in tried:
        loss = "failed" if trial.loss is None else f"{trial.loss:.3f}"
        rank, rate = trial.settings["rank"], trial.settings["learning_rate"]
        print(
            f"tuning loss {loss}: --set language_model.rank={rank} --set language_model.alpha={2 * rank} "
            f"--set language_model.batch_tokens={trial.settings['batch_tokens']} "
            f"--set language_model.learning_rate={rate:.2g}"
        )
    return 0


VERBS = (
    Verb(
        "evaluate-language",
        "compare a language model with its base on a file of questions",
        _evaluate,
        _add_evaluate,
    ),
    Verb(
        "tune-language",
        "search rank, learning rate and batch size of a language model on tuning questions",
        _tune,
        _add_tune,
    ),
    Verb(
        "export", "write a language model in other forms, each compared with its parent", _export, _add_export
    ),
)
