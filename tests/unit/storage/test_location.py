"""What users write for a place, and how places lie to each other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crossweave.errors import SettingsError
from crossweave.storage.location import Location

DISK = [
    ("a/b", "{here}/a/b"),
    ("./a/../b/", "{here}/b"),
    ("~", "{here}/~"),
    ("", "{here}"),
    ("/x//y/", "/x/y"),
    ("/x:/y", "/x:/y"),
    ("file:/x/y", "/x/y"),
    ("file:///x/y/", "/x/y"),
    ("file://localhost/x", "/x"),
    ("FILE:///x/../y", "/y"),
    ("file:///with space%20", "/with space%20"),
    ("C:/data", "{here}/C:/data"),
    ("C:\\data", "{here}/C:\\data"),
    ("run:1", "{here}/run:1"),
    ("2026-01-01T10:00:00/x", "{here}/2026-01-01T10:00:00/x"),
    ("k=v:w/x", "{here}/k=v:w/x"),
    ("s3/bucket", "{here}/s3/bucket"),
]
STORES = [
    ("s3://b/x/y", "s3", "b", "/x/y"),
    ("s3a://b/x", "s3", "b", "/x"),
    ("S3N://b/x", "s3", "b", "/x"),
    ("s3://b", "s3", "b", "/"),
    ("s3://b/", "s3", "b", "/"),
    ("s3://b//", "s3", "b", "/"),
    ("s3://b//x//y///", "s3", "b", "/x/y"),
    ("s3://b/x/../y/./z/", "s3", "b", "/y/z"),
    ("s3://b/../../other/x", "s3", "b", "/other/x"),
    ("s3://b/a b+c%20/[1]", "s3", "b", "/a b+c%20/[1]"),
    ("s3://b/k=v/x:y@z", "s3", "b", "/k=v/x:y@z"),
    ("gs://b/x", "gs", "b", "/x"),
    ("gcs://b/x", "gs", "b", "/x"),
    ("abfss://c@a.dfs.core.windows.net/x", "abfs", "c@a.dfs.core.windows.net", "/x"),
    ("abfs://c@a.dfs.core.windows.net", "abfs", "c@a.dfs.core.windows.net", "/"),
    ("hdfs://h:1/x", "hdfs", "h:1", "/x"),
    ("hdfs://node/x/", "hdfs", "node:8020", "/x"),
    ("hdfs://NODE:8020/x", "hdfs", "node:8020", "/x"),
]
REFUSED = [
    ("s3:/b/x", "no bucket"),
    ("s3:b/x", "no bucket"),
    ("s3:", "no bucket"),
    ("s3://", "no bucket"),
    ("s3:///x", "no bucket"),
    ("gs:/b", "no bucket"),
    ("gs:b", "no bucket"),
    ("s3a:b", "no bucket"),
    ("abfss://c/x", "no container of an account"),
    ("abfss://@a.dfs.core.windows.net/x", "no container of an account"),
    ("hdfs:/x", "no host"),
    ("hdfs:x", "no host"),
    ("hdfs://node:port/x", "no host"),
    ("hdfs://node:/x", "no host"),
    ("hdfs://user@node/x", "no host"),
    ("file:x", "no file of this machine"),
    ("file://host/x", "no file of this machine"),
    ("ftp://h/x", "does not know"),
    ("ftp:/h/x", "does not know"),
    ("https://h/x", "does not know"),
    ("dbfs:/x", "does not know"),
    ("wasbs://c@a/x", "does not know"),
]


@pytest.mark.parametrize(("given", "path"), DISK)
def test_paths_and_file_urls_are_of_this_machine(
    given: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = Location.of(given)
    assert (found.scheme, found.host, found.path) == ("file", "", path.format(here=tmp_path))
    assert str(found) == os.fspath(found) == found.path
    assert Location.of(str(found)) == Location.of(found.local) == Location.of(found) == found


@pytest.mark.parametrize(("given", "scheme", "host", "path"), STORES)
def test_urls_name_a_store_its_host_and_a_path(given: str, scheme: str, host: str, path: str) -> None:
    found = Location.of(given)
    assert found == Location(scheme, host, path)
    assert Location.of(str(found)) == found
    assert not found.is_local
    with pytest.raises(ValueError, match="no file system of this machine"):
        os.fspath(found)


@pytest.mark.parametrize(("given", "said"), REFUSED)
def test_what_only_looks_like_a_url_is_refused_and_never_a_folder_here(given: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        Location.of(given)
    assert caught.value.hint


def test_keys_in_a_url_are_refused() -> None:
    with pytest.raises(SettingsError, match="names no bucket"):
        Location.of("s3://key:secret@bucket/x")


def test_a_path_that_went_through_pathlib_is_refused_where_it_was_a_url() -> None:
    with pytest.raises(SettingsError, match="names no bucket"):
        Location.of(Path("s3://bucket/x"))


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert Location.of(tmp_path / "link" / "x").path == f"{tmp_path.resolve()}/real/x"


def test_hdfs_without_a_host_is_the_default_one_of_hadoops_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    with pytest.raises(SettingsError, match="names no name node") as caught:
        Location.of("hdfs:///x")
    assert "HADOOP_CONF_DIR" in caught.value.hint
    settings = "<configuration><property><name>{}</name><value> {} </value></property></configuration>"
    (tmp_path / "core-site.xml").write_text(settings.format("fs.defaultFS", "hdfs://node:8020/"))
    assert Location.of("hdfs:///x/y") == Location("hdfs", "node:8020", "/x/y")
    for name, value in (("fs.defaultFS", "s3a://bucket"), ("fs.defaultFS", "file:///"), ("other", "hdfs://node")):
        (tmp_path / "core-site.xml").write_text(settings.format(name, value))
        with pytest.raises(SettingsError, match="names no name node"):
            Location.of("hdfs:///x")
    (tmp_path / "core-site.xml").write_text("<configuration>")
    with pytest.raises(SettingsError, match=r"core-site.xml is no XML"):
        Location.of("hdfs:///x")
    monkeypatch.delenv("HADOOP_CONF_DIR")
    with pytest.raises(SettingsError, match="names no name node"):
        Location.of("hdfs:///x")


def test_a_service_of_several_name_nodes_has_no_port_and_a_single_one_has_one_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = "<configuration><property><name>{}</name><value>{}</value></property></configuration>"
    (tmp_path / "core-site.xml").write_text(settings.format("fs.defaultFS", "hdfs://Shop"))
    (tmp_path / "hdfs-site.xml").write_text(settings.format("dfs.nameservices", "Shop, other"))
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    assert Location.of("hdfs:///x") == Location.of("hdfs://Shop/x") == Location("hdfs", "Shop", "/x")
    assert Location.of("hdfs://Node/x") == Location.of("hdfs://node:8020/x")


def test_a_container_of_yarn_finds_hadoops_settings_that_spark_brought_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought = tmp_path / "__spark_conf__" / "__hadoop_conf__"
    brought.mkdir(parents=True)
    (brought / "core-site.xml").write_text(
        "<configuration><property><name>fs.defaultFS</name><value>hdfs://node:1</value></property></configuration>"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HADOOP_CONF_DIR", "/not/of/this/host")
    assert Location.of("hdfs:///x") == Location("hdfs", "node:1", "/x")
    assert os.environ["HADOOP_CONF_DIR"] == str(brought)  # where delta-rs and the client look


def test_a_place_holds_itself_and_what_lies_below_it() -> None:
    place = Location.of("s3://b/x")
    assert place.holds(place)
    assert place.holds(place / "y" / "z")
    assert Location.of("s3://b").holds(place)
    assert Location.of("/").holds(Location.of("/x"))
    for other in ("s3://b/xy", "s3://b", "s3://c/x/y", "gs://b/x/y", "/x/y"):
        assert not place.holds(Location.of(other))


def test_the_way_from_a_folder_to_what_it_holds() -> None:
    root = Location.of("s3://b")
    assert (root / "x" / "y").below(root) == "x/y"
    assert (root / "x" / "y").below(root / "x") == "y"
    assert root.below(root) == "."
    with pytest.raises(ValueError, match="does not lie below"):
        root.below(root / "x")


def test_names_stems_and_parents() -> None:
    place = Location.of("s3://b/x/y.tar.gz")
    assert (place.name, place.stem, place.parent) == ("y.tar.gz", "y.tar", Location.of("s3://b/x"))
    assert place.parent.parent == place.parent.parent.parent == Location.of("s3://b")
    assert Location.of("s3://b").name == ""
    assert Location.of("s3://b") / "x/../y" == Location.of("s3://b/y")
    assert Location.of("s3://b") / "../.." / "y" == Location.of("s3://b/y")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/x y", "file:/x y"),
        ("s3://b/x", "s3a://b/x"),
        ("s3n://b", "s3a://b/"),
        ("gcs://b/x", "gs://b/x"),
        ("abfs://c@a.dfs.core.windows.net/x", "abfss://c@a.dfs.core.windows.net/x"),
        ("hdfs://h:1/x", "hdfs://h:1/x"),
    ],
)
def test_spark_is_given_the_scheme_that_it_knows(given: str, expected: str) -> None:
    assert Location.of(given).for_spark == expected
    assert Location.of(expected) == Location.of(given)
