"""FTP: whole files or none, folders, wildcards, TLS, servers that refuse or go."""

import os
import ssl

import pytest
from tests.conformance.connectors.ftpserver import ftp_server
from tests.tls import make_certificates

from galley.core.recipes.spec import KeySpec
from galley.engine.connectors import connector, ftp
from galley.engine.connectors.base import Batch
from galley.engine.faults import StepError
from galley.engine.outbound import Gate

CONTENT = os.urandom(300_000)


def put(place, into, config, path, content=CONTENT):
    source = into() / "content"
    source.write_bytes(content)
    key = KeySpec("w", "write_file", path=path)
    return connector("ftp", place).write(config, key, Batch(source, "binary"))


def get(place, into, config, path):
    key = KeySpec("r", "read_file", path=path)
    return connector("ftp", place).read(config, key, into()).path.read_bytes()


@pytest.mark.parametrize("path", ["a.bin", "new/folder/a b ü.bin", "/abs/x.bin"])
def test_a_file_arrives_whole_in_folders_that_are_made(place, into, ftp, path):
    put(place, into, ftp.config, path)
    assert (ftp.folder / path.removeprefix("/")).read_bytes() == CONTENT
    assert get(place, into, ftp.config, path) == CONTENT


def test_a_file_is_replaced_and_nothing_stands_beside_it(place, into, ftp):
    put(place, into, ftp.config, "a.bin", b"old")
    put(place, into, ftp.config, "a.bin")
    assert [path.name for path in ftp.folder.iterdir()] == ["a.bin"]
    assert (ftp.folder / "a.bin").read_bytes() == CONTENT


def test_a_place_that_cannot_be_taken_keeps_what_it_has(place, into, ftp):
    (ftp.folder / "a.bin").mkdir()
    (ftp.folder / "a.bin" / "kept").touch()
    with pytest.raises(StepError, match=r"no usable file a\.bin") as caught:
        put(place, into, ftp.config, "a.bin")
    assert not caught.value.retryable
    assert [path.name for path in ftp.folder.iterdir()] == ["a.bin"]
    assert (ftp.folder / "a.bin" / "kept").exists()


@pytest.mark.parametrize("without", [(), ("MLSD", "MLST")])
def test_wildcards_stay_in_a_folder_unless_they_say_otherwise(place, tmp_path, without):
    names = ["a.csv", "in/b.csv", "in/c.txt", "in/deep/d.csv"]
    with ftp_server(tmp_path / "ftp", without=without) as server:
        for name in names:
            path = server.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        (server.folder / "empty").mkdir()

        def keys(pattern):
            return connector("ftp", place).keys(server.config, pattern)

        assert keys("*.csv") == ["a.csv"]
        assert keys("/in/*.csv") == ["/in/b.csv"]
        assert keys("in/?.[!c]*") == ["in/c.txt"]
        assert keys("**/*.csv") == ["a.csv", "in/b.csv", "in/deep/d.csv"]
        assert keys("i*/*.txt") == ["in/c.txt"]
        assert keys("empty/*") == []
        assert keys("nowhere/*") == []


def test_a_server_that_tells_no_files_from_folders_is_told(place, tmp_path):
    with ftp_server(tmp_path / "ftp", without=("MLSD", "MLST", "SIZE")) as server:
        (server.folder / "a.csv").touch()
        with pytest.raises(StepError, match="knows neither MLSD nor SIZE"):
            connector("ftp", place).keys(server.config, "*.csv")


def test_an_address_that_does_not_answer_is_passed_by(place, ftp, monkeypatch):
    monkeypatch.setattr(Gate, "addresses", lambda *_: ["127.0.0.9", "127.0.0.1"])
    assert connector("ftp", place).test(ftp.config) is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"password": "wrong"}, "did not let us in .530.*Check `username` and `password`"),
        ({"hostname": ""}, "give it a `hostname`"),
        ({"port": "x"}, "Check `port`"),
        ({"hostname": "no.such.host.invalid"}, "cannot be resolved"),
    ],
)
def test_a_wrong_configuration_is_told_with_its_cure(place, ftp, change, told):
    with pytest.raises(StepError, match=told):
        connector("ftp", place).test({**ftp.config, **change})


@pytest.mark.parametrize("path", ["", "/", "a/../b", "a\r\nDELE b"])
def test_a_path_that_names_no_file_is_refused(place, into, ftp, path):
    with pytest.raises(StepError):
        get(place, into, ftp.config, path)


def test_private_addresses_stay_closed(place, ftp):
    from dataclasses import replace

    from galley.engine.outbound import OutboundPolicy

    closed = replace(place, outbound=OutboundPolicy())
    with pytest.raises(StepError, match="is not public"):
        connector("ftp", closed).test(ftp.config)


def test_tls_hides_names_and_content_and_checks_the_certificate(place, into, tmp_path, monkeypatch):
    authority, certificate, key = make_certificates(tmp_path)
    with ftp_server(tmp_path / "ftp", (certificate, key)) as server:
        secure = {**server.config, "tls": True}
        with pytest.raises(StepError, match=r"certificate of 127\.0\.0\.1 is not good"):
            connector("ftp", place).test(secure)
        trusting = ssl.create_default_context(cafile=authority)
        monkeypatch.setattr(ftp.ssl, "create_default_context", lambda: trusting)
        put(place, into, secure, "a.bin")
        assert get(place, into, secure, "a.bin") == CONTENT
        assert connector("ftp", place).keys(secure, "*") == ["a.bin"]
        with pytest.raises(StepError, match="Check"):
            connector("ftp", place).test(server.config)


def test_a_server_that_goes_is_told_and_may_be_tried_again(place, into, ftp, monkeypatch):
    (ftp.folder / "a.bin").write_bytes(CONTENT)

    def cut(self, *_arguments, **_options):
        self.sock.shutdown(2)
        return self.voidcmd("NOOP")

    monkeypatch.setattr("ftplib.FTP.retrbinary", cut)
    with pytest.raises(StepError, match="could not be called") as caught:
        get(place, into, ftp.config, "a.bin")
    assert caught.value.retryable
