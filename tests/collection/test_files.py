"""Files are found on disk and in the cloud, alone or in folders, packed or not."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pytest
from source_files import PLAIN, put, read

from ninefold.collection import files, sources
from ninefold.errors import DataError

files_store = files._store


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_packed_files_are_read(suffix: str) -> None:
    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zst}[suffix]
    source = put(f"t.csv{suffix}", pack("id;city\n01;Köln\n2;NA\n".encode()))
    assert sources.sniff(source) == {"delimiter": ";"}
    assert read(source, delimiter=";") == PLAIN


def zst(raw: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(raw)
    return sink.getvalue().to_pybytes()


def test_a_zip_with_one_file_is_read_and_one_with_more_refused() -> None:
    with zipfile.ZipFile("t.zip", "w") as archive:
        archive.writestr("inner.csv", "id,city\n01,Köln\n2,NA\n")
    assert read("t.zip") == PLAIN
    with zipfile.ZipFile("t.zip", "a") as archive:
        archive.writestr("other.csv", "x\n1\n")
    with pytest.raises(DataError, match=r"t.zip: found 2 files in it \(inner.csv, other.csv\), expected one"):
        sources.read("t.zip")


def test_a_folder_is_one_table_in_the_order_of_its_names() -> None:
    put("parts/b.csv", "city,id\nNA,2\n")
    put("parts/a.csv", "id,city\n01,Köln\n")
    put("parts/.DS_Store", b"\0")
    put("parts/_SUCCESS", "")
    assert read("parts") == PLAIN


def test_a_file_of_a_folder_that_differs_is_named() -> None:
    put("parts/a.csv", "id,city\n01,Köln\n")
    put("parts/sub/b.csv", "id,town\n2,Bern\n")
    with pytest.raises(DataError, match=r"parts/sub/b.csv: found other columns than in parts/a.csv: city, town"):
        sources.read("parts")
    Path("empty").mkdir()
    with pytest.raises(DataError, match="empty: found an empty folder"):
        sources.read("empty")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Serve S3 from this process, by moto; return a client with an empty bucket."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    values = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    for name, value in {**values, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", region_name="us-east-1", endpoint_url=f"http://{host}:{port}")
    client.create_bucket(Bucket="shop")
    yield client
    server.stop()


def test_s3_is_read_by_file_and_by_folder(bucket: Any) -> None:
    bucket.put_object(Bucket="shop", Key="raw/a b/1.csv.gz", Body=gzip.compress("id;city\n01;Köln\n".encode()))
    bucket.put_object(Bucket="shop", Key="raw/a b/2.csv", Body=b"id;city\n2;NA\n")
    assert sources.sniff("s3://shop/raw/a b/1.csv.gz") == {"delimiter": ";"}
    assert read("s3://shop/raw/a b/2.csv", delimiter=";") == {"id": ["2"], "city": ["NA"]}
    assert read("s3://shop/raw/a b", delimiter=";") == PLAIN
    with pytest.raises(DataError, match=r"s3://shop/raw/no.csv: not found; correct the bucket and the key"):
        sources.read("s3://shop/raw/no.csv")


def test_s3_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "topsecret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(DataError, match=r"s3://shop/t.csv: .*AWS_ENDPOINT_URL") as error:
        sources.read("s3://shop/t.csv")
    assert "topsecret" not in str(error.value)


@pytest.mark.parametrize("address", ["gs://shop/raw data", "abfss://shop@account.dfs.core.windows.net/raw data"])
def test_other_clouds_are_read_by_file_and_by_folder(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put("cloud/shop/raw data/a.csv", "id,city\n01,Köln\n")
    put("cloud/shop/raw data/deep/b.csv", "id,city\n2,NA\n")
    put("cloud/shop/raw data/_SUCCESS", "")
    local = pyarrow.fs.SubTreeFileSystem(str(Path("cloud").absolute()), pyarrow.fs.LocalFileSystem())
    monkeypatch.setattr(files, "_store", lambda source: (local, files_store(source)[1]))
    assert read(address) == PLAIN
    assert read(f"{address}/a.csv") == {"id": ["01"], "city": ["Köln"]}
    with pytest.raises(DataError, match=r"no.csv: not found; correct the bucket and the key"):
        sources.read(f"{address}/no.csv")


def test_the_fingerprint_follows_the_content() -> None:
    put("parts/a.csv", "a\n1\n")
    before = sources.fingerprint("parts/a.csv"), sources.fingerprint("parts")
    put("parts/a.csv", "a\n2\n")
    after = sources.fingerprint("parts/a.csv"), sources.fingerprint("parts")
    assert None not in before
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert sources.fingerprint("no.csv") is None
    assert sources.fingerprint("s3://shop/t.csv") is None
