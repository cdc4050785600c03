"""Files on paths and at URIs: of pyarrow's own file systems, and of fsspec's."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from cifar_tune import files
from cifar_tune.errors import PlanError, StorageError

S3 = "s3://bucket/deep/folder?scheme=http&endpoint_override=localhost:9000"


@pytest.fixture(params=["", "file://", "fsspec+local://"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder as a path, and as a URI of both kinds."""
    return f"{request.param}{tmp_path}"


def write(location: str, tmp_path: Path, content: bytes = b"weights") -> None:
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("data", content)
    files.write_probe(location, archive.read_bytes())
    archive.unlink()


def test_what_was_written_is_whole_and_at_hand_as_a_file(base: str, tmp_path: Path) -> None:
    location = files.inside(base, "t0001", "model.ckpt")
    assert not files.is_whole(location)
    write(location, tmp_path)
    assert files.is_whole(location)
    with files.at_hand(location) as path:
        assert zipfile.ZipFile(path).read("data") == b"weights"
    assert path.exists() == (not files.is_uri(location)), "a copy is deleted again"
    with pytest.raises(OSError, match="nowhere"), files.at_hand(files.inside(base, "nowhere")) as p:
        p.read_bytes()


def test_a_copy_stays_when_its_source_goes(base: str, tmp_path: Path) -> None:
    source, target = (
        files.inside(base, "a", "model.ckpt"),
        files.inside(base, "b", "c", "model.ckpt"),
    )
    write(source, tmp_path)
    files.copy(source, target)
    files.delete_folder(files.parent(source))
    assert not files.is_whole(source)
    assert files.is_whole(target)


def test_all_but_what_is_kept_is_deleted_and_so_is_a_folder_that_is_empty_then(
    base: str, tmp_path: Path
) -> None:
    home = files.inside(base, "1")
    for name in ("t0001", "t0002"):
        write(files.inside(home, name, "model.ckpt"), tmp_path)
    write(files.inside(home, "tuner.pkl"), tmp_path)
    files.keep_only(home, {"t0002"})
    assert [path.name for path in (tmp_path / "1").iterdir()] == ["t0002"]
    files.keep_only(home, set())
    assert not (tmp_path / "1").exists()
    files.keep_only(home, set())  # there is nothing any more


def test_a_file_that_is_cut_is_not_whole(tmp_path: Path) -> None:
    location = files.inside(str(tmp_path), "model.ckpt")
    write(location, tmp_path)
    Path(location).write_bytes(Path(location).read_bytes()[:-5])
    assert not files.is_whole(location)


@pytest.mark.faults
def test_a_checkpoint_that_can_not_be_looked_for_is_not_given_up() -> None:
    nobody = "s3://bucket/model.ckpt?scheme=http&endpoint_override=127.0.0.1:1&region=none"
    with pytest.raises(StorageError, match=r"can't be looked for: .* bring its storage back"):
        files.is_whole(nobody)  # S3's client tries it for some seconds


def test_the_query_of_a_uri_stays_at_its_end() -> None:
    inner = files.inside(S3, "name-1", "t0001")
    assert (
        inner == "s3://bucket/deep/folder/name-1/t0001?scheme=http&endpoint_override=localhost:9000"
    )
    assert files.name_of(inner) == "t0001"
    assert files.parent(files.parent(inner)) == S3


def test_a_journal_names_paths_from_its_folder_or_uris(tmp_path: Path) -> None:
    assert files.locate(tmp_path, "ray/1/t0001/model.ckpt") == f"{tmp_path}/ray/1/t0001/model.ckpt"
    assert files.locate(tmp_path, S3) == S3
    assert files.locate(tmp_path, "/mnt/shared/1") == "/mnt/shared/1"


def test_a_uri_that_can_not_be_opened_is_refused_with_those_that_can() -> None:
    with pytest.raises(PlanError, match=r"--storage-path is 'nowhere://x'.*fsspec\+PROTOCOL://"):
        files.check_uri("nowhere://x", "--storage-path")
