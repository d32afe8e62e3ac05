"""A language model of toy size goes from its questions to a decision, and a fit that was killed goes on."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from deltalake import write_deltalake
from safetensors.torch import load_file

from data_pipeline.documents import questions as question_files
from data_pipeline.documents.questions import Question
from mediscale.cli import summary
from mediscale.cli.main import main
from mediscale.core.errors import NotFoundError, QualityError, StorageError, UsageError
from mediscale.core.refs import TableRef
from mediscale.core.settings import Settings
from mediscale.core.tables import QUESTIONS
from mediscale.inference import base_models, devices, language_version, model_files
from mediscale.inference.chat_template import ChatTemplate, conversation
from mediscale.inference.model_files import ADAPTER_FILE, LANGUAGE_FILE
from mediscale.pipeline import local, runtime_inputs, steps
from mediscale.storage import lake, registry
from training import evidence_files
from training.language import language_model, language_training, lora
from training.language.language_evidence import LanguageEvidence, LanguageMeasures
from training.language.language_training import Job, Recipe
from training.language.lora import Adapter
from training.step_log import StepLog

DATASET = "clinical-questions"
ADAPTER = Adapter(rank=4, alpha=8, dropout=0.0, targets=(), fully_trained=())


def land(settings: Settings, questions: Sequence[Question]) -> TableRef:
    """Three of four questions to train on, the others to tune on."""
    rows = [q.model_dump() | {"split": "tuning" if i % 4 == 3 else "train"} for i, q in enumerate(questions)]
    table = pa.Table.from_pylist(rows, schema=QUESTIONS.arrow_schema())
    write_deltalake(settings.table_uri(DATASET, QUESTIONS.name), table)
    return lake.latest(settings, DATASET, QUESTIONS.name)


@pytest.fixture
def job(settings: Settings, toy_base: Path, toy_questions: list[Question]) -> Job:
    settings.home.mkdir()
    return Job(
        home=str(settings.home),
        lake=settings.lake,
        questions=land(settings, toy_questions[:40]),
        base=str(toy_base),
        instruction="Answer.",
        adapter=ADAPTER,
        quantization="none",
        recipe=Recipe(
            epochs=2, learning_rate=5e-3, batch_tokens=256, gradient_accumulation_steps=1, max_length=96,
            checkpoint_every=2, threads=1, seed=0,
        ),
        checkpoints=str(settings.home / "checkpoints"),
    )  # fmt: skip


def test_a_run_takes_questions_to_a_version_that_answers_as_it_was_judged_and_to_a_decision(
    settings: Settings,
    toy_base: Path,
    toy_questions: list[Question],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "stroke.txt").write_text("Alteplase is given within 4.5 hours of the onset of stroke.")
    file = tmp_path / "mine.jsonl"
    question_files.write(file, toy_questions)
    which = runtime_inputs.Source(pipeline="language", source="file", path=str(file), dataset=DATASET)
    config: dict[str, dict[str, Any]] = {
        "document_index": {"documents": str(tmp_path / "stroke.txt")},
        "language_model": {
            "base": str(toy_base), "rank": 8, "epochs": 4, "learning_rate": 1e-2, "threads": 1, "max_length": 96,
            "batch_tokens": 512,
        },
        "evaluate_language": {"max_generated": 4, "max_tokens": 8, "bootstrap": 100},
        "promote_language": {"target_alias": "production"},
    }  # fmt: skip
    results = []
    for run_id in ("first", "second"):
        this = local.Run(settings, which.name, run_id, config)
        results.append(local.run_pipeline(this, steps.LANGUAGE, local.prepare_source(this, which)))
    assert all(step.cached for step in this.progress.steps[1:])
    assert results[0] == results[1]
    decision: Any = results[0]["promote_language"]
    summary.show_language(this, settings.home / "reports" / "page.html", results[0])
    said = capsys.readouterr().out
    assert "is a toy of" in said
    assert "in its own words, " in said
    assert f"serve --dataset {DATASET} --alias staging" in said.partition("next")[2]
    assert "export clinical-questions-language/1" in said.partition("next")[2]
    model = decision.model
    files = model_files.read_verified(settings, model)
    assert files.keys() == {"adapter_model.safetensors", "adapter_config.json", "language.json"}
    assert str(toy_base) not in files["adapter_config.json"].decode(), "a path of this machine"
    everything = model_files.all_files(settings, model)
    assert not [name for name in everything if name.endswith((".bin", ".pt", ".pkl", ".pth"))]
    assert json.loads(everything["training.json"])["trainable"]["lora"] > 0

    evidence = evidence_files.read_evidence(
        LanguageEvidence, settings, decision.evidence, decision.evidence_digest
    )
    figures = evidence.measures.figures
    assert figures["answer_log_likelihood"].gain.low > 0, "the toy learnt nothing"
    assert (
        figures["multiple_choice_accuracy"].base.value,
        figures["multiple_choice_accuracy"].tuned.value,
    ) == (0, 1)
    assert figures["token_f1"].n == 4
    assert set(evidence.measures.by_specialty) == {"neurology", "nephrology"}
    held_out = question_files.read(settings.home / results[0]["question_set"].test_file)  # type: ignore[attr-defined]
    asked = [(q.question, q.context, q.answer) for q in held_out]
    likelihoods = [each.per_token for each in language_version.load(settings, files).log_likelihoods(asked)]
    assert np.mean(likelihoods) == pytest.approx(figures["answer_log_likelihood"].tuned.value, abs=1e-4)

    assert decision.staged
    assert next(move.alias for move in registry.history(settings, DATASET)) == "staging"
    client = registry.client(settings)
    assert int(client.get_model_version_by_alias(model.name, "staging").version) == model.version
    run = client.get_run(client.get_model_version(model.name, str(model.version)).run_id)
    assert run.data.metrics["tuning_loss"] < run.data.metrics["tuning_loss_of_the_base"]
    assert run.data.metrics["lora_parameters"] > 0

    monkeypatch.setenv("MEDISCALE_HOME", str(settings.home))
    told = ["--test", str(file), "--output", str(tmp_path / "report.json"), "--max-generated", "2"]
    assert main(["evaluate-language", f"{model.name}/{model.version}", *told]) == 0
    assert "answer log likelihood" in capsys.readouterr().out
    report = LanguageMeasures.model_validate_json((tmp_path / "report.json").read_text())
    assert report.figures["answer_log_likelihood"].n == len(toy_questions)
    assert report.general is None, "minutes for who asks about a few questions"
    assert evidence.measures.general is not None
    assert main(["evaluate-language", f"{model.name}/9", *told]) == NotFoundError.exit_code
    _is_governed_as_a_risk_model(f"{model.name}/{model.version}", settings, capsys)

    damaged = {**files, ADAPTER_FILE: files[ADAPTER_FILE][:-4] + b"\xff\xff\x7f\x7f"}
    with pytest.raises(StorageError, match="does not answer as it did in training"):
        language_version.load(settings, damaged)
    other = json.loads(files[LANGUAGE_FILE]) | {"base_digest": "0" * 64}
    with pytest.raises(StorageError, match="was trained on another"):
        language_version.load(settings, {**files, LANGUAGE_FILE: json.dumps(other).encode()})


def _is_governed_as_a_risk_model(
    version: str, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verified, asked for, refused with reasons, shown and rebuilt by the same verbs."""
    assert main(["verify", "--dataset", DATASET]) == 0
    assert "1 version named there, with files and evidence" in capsys.readouterr().out
    about = ["--dataset", DATASET, "--task", "language", "--version", "1"]
    assert main(["promote", *about]) == QualityError.exit_code
    assert "Production refused: multiple choice accuracy was measured on" in capsys.readouterr().out
    assert main(["rollback", *about, "--alias", "staging", "--reason", "x"]) == NotFoundError.exit_code
    assert main(["approve", version, "--reason", "x"]) == NotFoundError.exit_code
    capsys.readouterr()
    assert main(["history", "--dataset", DATASET]) == 0
    assert "gains over the base in answer log likelihood" in capsys.readouterr().out
    assert main(["runs"]) == 0
    assert "language staged" in capsys.readouterr().out
    assert main(["report", "first", "--output", str(settings.home / "page.html")]) == 0
    page = (settings.home / "page.html").read_text()
    assert "Not released: kept in staging" in page
    assert "refusal where none was due" in page
    assert "mediscale run --pipeline language --source file" in page
    assert main(["model-card", version, "--output", str(settings.home / "card.html")]) == 0
    card = json.loads((settings.home / "card.json").read_text())
    assert {item["id"]: item["status"] for item in card["sections"][0]["items"]} == {
        "1": "in part", "2": "answered", "3": "in part", "4": "answered", "5": "answered", "6": "answered",
        "7a": "answered", "7b": "answered", "7c": "answered", "7d": "not done", "7e": "answered", "8": "in part",
        "9": "answered",
    }  # fmt: skip
    capsys.readouterr()
    assert main(["reproduce", version]) == 0
    assert "identical to the bit in adapter_config.json, adapter_model.safetensors" in capsys.readouterr().out


def test_a_fit_that_ended_early_goes_on_from_its_last_whole_checkpoint(
    settings: Settings, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = language_training.on_ray(
        settings, job.model_copy(update={"checkpoints": f"{job.checkpoints}-1"}), 1, "a"
    )
    assert whole.resumed_at == 0
    assert whole.losses[-1] < whole.losses[0]
    taken = StepLog.step

    def end_at_five(self: StepLog, done: int, loss: float) -> None:
        if done == 5:
            raise OSError("the machine went down")
        taken(self, done, loss)

    with monkeypatch.context() as broken:
        broken.setattr(StepLog, "step", end_at_five)
        with pytest.raises(Exception, match="the machine went down"):
            language_training.on_ray(settings, job, 1, "b")
    newest = language_training.newest(Path(job.checkpoints))
    assert newest is not None
    half = newest.with_name("checkpoint-99")
    shutil.copytree(newest, half)
    (half / language_training.COMPLETE).unlink()
    resumed = language_training.on_ray(settings, job, 1, "b")
    assert resumed.resumed_at == 4
    assert resumed.losses == pytest.approx(whole.losses, abs=1e-4)
    assert resumed.tuning_losses[1] == pytest.approx(whole.tuning_losses[1], abs=1e-4)


def test_what_is_learnt_is_the_answer_after_the_very_prompt_that_serving_sends(job: Job) -> None:
    trainer = language_training.build(job)
    tokenizer, question = base_models.tokenizer(Path(job.base)), job.load("train")[0]
    row = trainer.train_dataset[0]
    turns = conversation(question.question, question.context, job.instruction)
    prompt = ChatTemplate.of(tokenizer).render(turns)
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert row["input_ids"][: len(before)] == before
    assert set(row["labels"][: len(before)]) == {-100}
    assert tokenizer.decode([label for label in row["labels"] if label != -100]) == f"{question.answer}<e>\n"


def test_the_loss_is_that_of_the_answers_and_its_gradient_too(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the network itself computes it from the labels, with logits at every place; in single precision, also where
    the processor multiplies bfloat16, in which both round elsewhere."""
    monkeypatch.setattr(devices, "precision", lambda _: torch.float32)
    trainer = language_training.build(job)
    batch = next(iter(trainer.get_train_dataloader()))
    model = trainer.model.eval()
    sides = []
    for loss in (model(**batch).loss, language_training.answer_loss(model, batch)):
        model.zero_grad()
        loss.backward()
        gradient = sum(p.grad.norm() for p in model.parameters() if p.grad is not None)
        sides.append((loss.item(), gradient.item()))
    assert sides[0] == pytest.approx(sides[1], rel=1e-5)
    assert sides[0][1] > 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"targets": ("q_prj",)}, "no linear layer 'q_prj'; near names are .*q_proj"),
        ({"fully_trained": ("lm_heat",)}, "no module 'lm_heat'; near names are .*lm_head"),
    ],
)
def test_a_target_that_is_no_layer_is_refused_with_the_near_names(job: Job, change: Any, says: str) -> None:
    adapter = ADAPTER.model_copy(update=change)
    with pytest.raises(UsageError, match=says):
        language_training.check(job.model_copy(update={"adapter": adapter}), 1)


def test_more_workers_than_batches_are_refused_before_any_starts(job: Job) -> None:
    with pytest.raises(UsageError, match="batches where 50 are needed"):
        language_training.check(job, 50)


def test_a_base_in_four_bits_gets_an_adapter_that_learns(settings: Settings, job: Job) -> None:
    quantized = job.model_copy(update={"quantization": "4bit"})
    fitted = language_training.on_ray(settings, quantized, 1, "4bit")
    assert fitted.losses[-1] < fitted.losses[0]
    weights = load_file(fitted.adapter / ADAPTER_FILE)
    still = [name for name, tensor in weights.items() if "lora_B" in name and not tensor.any()]
    assert still == [], "no gradient came here"


def test_medgemmas_architecture_is_adapted_in_its_language_model_alone(
    settings: Settings, job: Job, toy_tokenizer: Callable[..., Any], tmp_path: Path
) -> None:
    """Gemma 3 with an image encoder, as MedGemma is, with random weights."""
    import torch
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    tokenizer = toy_tokenizer(
        ("<image>", "<soi>", "<eoi>"), image_token="<image>", boi_token="<soi>", eoi_token="<eoi>"
    )
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 128,
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
        "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in
           (("image", "<image>"), ("boi", "<soi>"), ("eoi", "<eoi>"))}  # fmt: skip
    torch.manual_seed(0)
    config = Gemma3Config(
        text_config=text, vision_config=vision, mm_tokens_per_image=4, eos_token_id=1, **ids
    )
    folder = tmp_path / "toy-medgemma"
    Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    medgemma = job.model_copy(update={"base": str(folder)})
    trainer = language_training.build(medgemma)
    trained = [name for name, p in trainer.model.named_parameters() if p.requires_grad]
    assert trained
    assert all("language_model" in name and "lora_" in name for name in trained)
    linear = lora.linear_layers(base_models.without_weights(folder))
    assert len(trained) == 2 * len(linear), "a linear layer of the language model has no adapter"
    fitted = language_training.on_ray(settings, medgemma, 1, "medgemma")
    assert fitted.losses[-1] < fitted.losses[0]
    adapter = [(fitted.adapter / name).read_bytes() for name in ("adapter_config.json", ADAPTER_FILE)]
    model = language_version.adapted(folder, adapter[0], adapter[1])
    (likelihood,) = model.log_likelihoods([("Which organ?", "", "the heart")])
    with model.base():
        (without,) = model.log_likelihoods([("Which organ?", "", "the heart")])
    assert likelihood.total != without.total
    assert isinstance(model.answers([("Which organ?", "")], 3)[0], str)


def test_the_stage_names_the_base_with_its_revision(toy_base: Path) -> None:
    (context,) = language_model.runtime_inputs({"base": str(toy_base)}, Settings())
    assert context.params["base_model"]["revision"] == base_models.digest(toy_base)
