"""Files are found on disk and in the cloud, alone or in folders, packed or not."""

import bz2
import gzip
import lzma
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.fs
import pytest
from corruptions import zst
from source_files import PLAIN, put, read

from ninefold.collection import files, sources
from ninefold.errors import DataError

files_store = files._store


@pytest.mark.parametrize(
    ("suffix", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zst", zst)]
)
def test_packed_files_are_read_but_no_zip_with_several(suffix: str, pack: Callable[[bytes], bytes]) -> None:
    source = put(f"t.csv.{suffix}", pack("id;city\n01;Köln\n2;NA\n".encode()))
    assert sources.sniff(source) == {"delimiter": ";"}
    assert read(source, delimiter=";") == PLAIN
    with zipfile.ZipFile("t.zip", "w") as archive:
        archive.writestr("inner.csv", "id,city\n01,Köln\n2,NA\n")
    assert read("t.zip") == PLAIN
    with zipfile.ZipFile("t.zip", "a") as archive:
        archive.writestr("other.csv", "x\n1\n")
    with pytest.raises(DataError, match=r"t.zip: found 2 files in it \(inner.csv, other.csv\), expected one"):
        sources.read("t.zip")


def test_a_folder_is_one_table_in_the_order_of_its_names_and_a_file_that_differs_is_named() -> None:
    put("parts/b.csv", "city,id\nNA,2\n")
    put("parts/a.csv", "id,city\n01,Köln\n")
    put("parts/.DS_Store", b"\0")
    put("parts/_SUCCESS", "")
    assert read("parts") == PLAIN
    put("parts/sub/b.csv", "id,town\n2,Bern\n")
    with pytest.raises(DataError, match=r"parts/sub/b.csv: found other columns than in parts/a.csv: city, town"):
        sources.read("parts")
    Path("empty").mkdir()
    for name, message in (("empty", "found an empty folder"), ("no.csv", "not found; correct the path")):
        with pytest.raises(DataError, match=f"{name}: {message}"):
            sources.read(name)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Serve S3 from this process, by moto; return a client with an empty bucket."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    values = {"AWS_ACCESS_KEY_ID": "topsecret", "AWS_SECRET_ACCESS_KEY": "topsecret", "AWS_REGION": "us-east-1"}
    for name, value in {**values, "AWS_ENDPOINT_URL": url}.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", region_name="us-east-1", endpoint_url=url)
    client.create_bucket(Bucket="shop")
    yield client
    server.stop()


def test_s3_is_read_by_file_and_by_folder_and_named_if_it_does_not_answer(bucket: Any, monkeypatch: Any) -> None:
    bucket.put_object(Bucket="shop", Key="raw/a b/1.csv.gz", Body=gzip.compress("id;city\n01;Köln\n".encode()))
    bucket.put_object(Bucket="shop", Key="raw/a b/2.csv", Body=b"id;city\n2;NA\n")
    assert sources.sniff("s3://shop/raw/a b/1.csv.gz") == {"delimiter": ";"}
    assert read("s3://shop/raw/a b/2.csv", delimiter=";") == {"id": ["2"], "city": ["NA"]}
    assert read("s3://shop/raw/a b", delimiter=";") == PLAIN
    with pytest.raises(DataError, match=r"s3://shop/raw/no.csv: not found; correct the bucket and the key"):
        sources.read("s3://shop/raw/no.csv")
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
    found = []
    for content in ("a\n1\n", "a\n2\n"):
        put("parts/a.csv", content)
        found += [sources.fingerprint("parts/a.csv"), sources.fingerprint("parts")]
    assert len({*found, None}) == 5
    assert sources.fingerprint("no.csv") is sources.fingerprint("s3://shop/t.csv") is None
