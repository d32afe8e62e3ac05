"""Answers of the model card of a language version."""

from mediscale.inference.language_spec import NOTICE
from mediscale.report.charts import estimate_text, share
from mediscale.report.labels import plain
from mediscale.report.language import LanguageReport
from training.language.language_evidence import PairedFigure


def identity(of: LanguageReport) -> str:
    return (
        f"{of.model}, a low-rank adapter (LoRA) of {of.evidence.base.name} at revision {of.evidence.base.revision}; "
        f"the digest of its files is {of.model.digest}."
    )


def method(of: LanguageReport) -> str:
    params, trained = of.training.params, of.training.result["trainable"]
    quantized = "" if params["quantization"] == "none" else f", the base in {params['quantization']}"
    return (
        f"Supervised fine-tuning on answers alone: rank {params['rank']}, alpha {params['alpha']}, {params['epochs']} "
        f"epochs at a learning rate of {params['learning_rate']}{quantized}; {trained['lora']:,} parameters of the "
        f"adapter were trained, {trained['fully_trained']:,} in modules trained whole, of {trained['total']:,}."
    )


def decision(of: LanguageReport) -> str:
    return f"Decided by {of.decision.params['actor']}: {of.decision.result['reason']}"


def use(_: LanguageReport) -> str:
    return f"Answers to questions of staff in one sentence, to be checked against sources. {NOTICE}"


def cautioned(_: LanguageReport) -> str:
    return (
        "No diagnosis, treatment or dose of a person rests on it, and it answers no patient. When it was judged, "
        "it was asked about no patient's record."
    )


def factors(of: LanguageReport) -> str:
    names = ", ".join(of.evidence.measures.by_specialty)
    return f"Its figures are given by specialty: {names}." if names else ""


def metrics(of: LanguageReport) -> str:
    names = ", ".join(plain(name) for name in of.evidence.measures.figures)
    return (
        f"{names}: each beside the un-tuned base on the same questions, with the paired gain and intervals from "
        "resampled families of questions."
    ).capitalize()


def evaluation_data(of: LanguageReport) -> str:
    prepared = of.questions.result
    return (
        f"{of.evidence.n_questions} questions that were held out by a fixed hash of their family, from the set "
        f"{of.questions.params['source']} (digest {of.questions.params['source_digest']}); "
        f"{prepared['contaminated']} training questions that are nearly one of them were removed."
    )


def training_data(of: LanguageReport) -> str:
    prepared = of.questions.result
    return (
        f"{prepared['train']} questions with answers, {prepared['augmented']} of them paraphrases, and "
        f"{prepared['tuning']} to tune on, of the same set. No record of a patient was among them."
    )


def results(of: LanguageReport) -> str:
    return " ".join(_sentence(plain(name), figure) for name, figure in of.evidence.measures.figures.items())


def results_by_specialty(of: LanguageReport) -> str:
    return " ".join(
        _sentence(f"{plain(name)} in {specialty}", figure)
        for specialty, figures in of.evidence.measures.by_specialty.items()
        for name, figure in figures.items()
    )


def regression(of: LanguageReport) -> str:
    figure = of.evidence.measures.general
    return _sentence("multiple choice accuracy on general questions", figure) if figure else ""


def _sentence(what: str, figure: PairedFigure) -> str:
    return (
        f"{what[:1].upper()}{what[1:]} on {figure.n} questions: {estimate_text(figure.tuned)}, of the base "
        f"{estimate_text(figure.base)}, gain {estimate_text(figure.gain)}."
    )


def errors(of: LanguageReport) -> str:
    return " ".join(
        f"{error.name[:1].upper()}{error.name[1:]}: {error.count} of {error.n} written answers, {share(error.share)}; "
        f"what helps: {error.remedy}."
        for error in of.evidence.measures.errors
    )


def confidence(of: LanguageReport) -> str:
    return " ".join(
        f"Of {one.n} answers ({kind}) {share(one.accuracy)} are right at a mean confidence of "
        f"{estimate_text(one.confidence)}; {one.flagged} were flagged for low confidence."
        for kind, one in of.evidence.measures.confidence.items()
    )


def unsupported(of: LanguageReport) -> str:
    grounding = of.evidence.measures.grounding
    return " ".join(
        f"{cell.specialty.capitalize()}, {'with' if cell.retrieval else 'without'} retrieval: "
        f"{share(cell.unsupported)} of {cell.n} sentences are not supported."
        for cell in (grounding.cells if grounding else ())
    )


def forms(of: LanguageReport) -> str:
    return " ".join(
        f"As {receipt.format}, read back by {receipt.runtime or 'no runtime'}: {receipt.state}."
        for receipt in of.evidence.receipts
    )


def limits(of: LanguageReport) -> str:
    return (
        f"Every figure is of this base, {of.evidence.base.name}, and of {of.evidence.n_questions} questions; a model "
        "of this kind states falsehoods fluently. Nothing in its training corrects a bias of the base."
    )
