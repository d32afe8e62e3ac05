"""Which index a server quotes from: a person's own, else the one of the pipeline's run, each in its newest version."""

import shutil
from pathlib import Path

import pytest

from data_pipeline.documents import index_versions
from data_pipeline.documents.passages import Document, table
from data_pipeline.retrieval import index_files, passage_vectors
from data_pipeline.retrieval.embedder import Embedder
from data_pipeline.retrieval.index_files import Contents
from mediscale.core.errors import MediscaleError
from mediscale.core.settings import Settings
from serving.language.documents import Documents


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", trust=tmp_path / "trust")


def put(settings: Settings, made: Path, name: str, version: int) -> Path:
    folder = index_versions.folder(settings, name) / str(version)
    shutil.copytree(made, folder)
    index_versions.sign(settings, name, version)
    return folder


def test_the_newest_version_of_one_s_own_index_stands_before_the_run_s(
    settings: Settings, indexed_documents: Path
) -> None:
    documents = Documents(settings, "questions")
    documents.refresh()
    assert documents.current is None
    for name, version in (("questions", 1), ("questions", 2), (index_versions.DEFAULT, 1)):
        made = put(settings, indexed_documents, name, version)
        documents.refresh()
        assert documents.current is not None
        assert documents.current.folder == made
    put(settings, indexed_documents, "questions", 3)
    documents.refresh()
    assert documents.current is not None
    assert documents.current.folder.parent.name == index_versions.DEFAULT


def test_an_index_that_nobody_signed_is_not_opened(settings: Settings, indexed_documents: Path) -> None:
    documents = Documents(settings, "questions")
    opened = put(settings, indexed_documents, "questions", 1)
    documents.refresh()
    shutil.copytree(indexed_documents, opened.with_name("2"))
    with pytest.raises(MediscaleError, match="has no signature of its manifest"):
        documents.refresh()
    assert documents.current is not None
    assert documents.current.folder == opened


def test_an_index_that_does_not_say_when_it_abstains_takes_no_other_s_place(
    settings: Settings, indexed_documents: Path, embedder: Embedder
) -> None:
    documents = Documents(settings, "questions")
    opened = put(settings, indexed_documents, "questions", 1)
    documents.refresh()
    rows = table([Document(file="a.txt", source="a.txt", text="Kidneys filter blood.", digest="0" * 64)])
    contents = Contents(rows, passage_vectors.embed(embedder, rows), embedder)
    index_files.write(opened.with_name("2"), "questions", 2, contents)
    index_versions.sign(settings, "questions", 2)
    with pytest.raises(MediscaleError, match="The index questions/2 does not say when it abstains"):
        documents.refresh()
    assert documents.current is not None
    assert documents.current.folder == opened


def test_an_index_that_was_deleted_is_quoted_no_more_but_one_whose_disk_is_gone_is(
    settings: Settings, indexed_documents: Path
) -> None:
    documents = Documents(settings, "questions")
    opened = put(settings, indexed_documents, "questions", 1)
    documents.refresh()
    root = opened.parent.parent
    away = root.rename(root.with_name("away"))
    with pytest.raises(MediscaleError, match="folder of the indexes is gone"):
        documents.refresh()
    assert documents.current is not None
    away.rename(root)
    shutil.rmtree(opened)
    documents.refresh()
    assert documents.current is None, "what was erased would be quoted from memory"
