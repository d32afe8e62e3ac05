"""The verb of feedback: what people said of answers, and a person's review of it."""

import argparse
import textwrap
from typing import TYPE_CHECKING

from mediscale.cli.verbs import Verb, check_dataset, settings

if TYPE_CHECKING:
    from mediscale.core.settings import Settings
    from mediscale.governance.feedback import FeedbackRecord

_SHOWN_CHARACTERS = 2000
"""Of a question or an answer, in a list."""


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("list", "accept", "reject"), nargs="?", default="list")
    parser.add_argument("feedback", metavar="ID", nargs="?", help="id of the feedback to accept or reject")
    parser.add_argument(
        "--dataset", help="only answers of this dataset (default: of every dataset in the lake)"
    )
    parser.add_argument("--reason", default="", help="one sentence for the record")
    parser.add_argument("--all", action="store_true", help="also list what was already reviewed")


def _run(options: argparse.Namespace) -> int:
    from mediscale.core.errors import UsageError

    if options.action == "list":
        return _list(options)
    if not options.feedback or not options.reason.strip():
        raise UsageError(
            f"mediscale feedback {options.action} needs the ID that the list shows, and --reason."
        )
    from mediscale.core import caller
    from mediscale.governance import feedback
    from mediscale.storage.feedback_reviews import Decision

    decision: Decision = "accepted" if options.action == "accept" else "rejected"
    home = settings()
    everywhere = _datasets(home, options.dataset)
    whose = (
        d for d in everywhere for f in feedback.all_feedback(home, d) if f.feedback_id == options.feedback
    )
    dataset = next(whose, everywhere[0])  # one that has it not says so
    about = feedback.review(home, dataset, options.feedback, decision, options.reason, caller.now())
    print(f"{options.feedback} is {decision}{_follows(about) if decision == 'accepted' else ''}.")
    return 0


def _datasets(home: "Settings", dataset: str | None) -> list[str]:
    """Whose feedback is meant.

    Raises:
        NotFoundError: the lake has no such dataset, or none at all.
    """
    from mediscale.core.errors import NotFoundError
    from mediscale.storage import lake

    there = [dataset] if dataset else lake.datasets(home)
    if not there:
        raise NotFoundError("The lake has no dataset yet, so nobody said anything of an answer.")
    return there


def _follows(accepted: "FeedbackRecord") -> str:
    """What comes of feedback that was accepted."""
    if accepted.question:
        return "; it joins the training part of the next question set"
    return (
        f", as a report about {accepted.model}/{accepted.model_version}; it trains nothing, for what came of the "
        "patient is in the record"
    )


def _list(options: argparse.Namespace) -> int:
    from mediscale.governance import feedback

    home = settings()
    datasets = _datasets(home, options.dataset)
    everything = [each for dataset in datasets for each in feedback.all_feedback(home, dataset)]
    if options.dataset and not everything:
        check_dataset(home, options.dataset)
    listed = [each for each in everything if options.all or each.decision is None]
    for each in listed:
        print(_feedback_text(each))
    if not everything:
        print(f"Nobody said anything of an answer of {', '.join(datasets)} yet.")
        return 0
    print(f"{len(listed)} of {len(everything)} listed; accept or reject by ID.")
    return 0


def _feedback_text(feedback: "FeedbackRecord") -> str:
    decided = f", {feedback.decision} by {feedback.reviewed_by}" if feedback.decision else ""
    head = f"{feedback.feedback_id}  {feedback.at:%Y-%m-%d %H:%M}  {feedback.verdict}  "
    head += f"{feedback.model}/{feedback.model_version}"
    texts = {"asked": feedback.question, "answered": feedback.answered, "corrected": feedback.corrected}
    lines = [f"    {name}: {_short(text)}" for name, text in texts.items() if text]
    return "\n".join([f"{head}  by {feedback.by}{decided}", *lines])


def _short(text: str) -> str:
    return textwrap.shorten(text, _SHOWN_CHARACTERS, placeholder=" …")


VERBS = (Verb("feedback", "list, accept or reject feedback on answers", _run, _add),)
